"""Atomic writing: a file is whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.bench.errors import BadInput
from vitptq.bench.results.store import write_atomically


def test_full_disk_leaves_no_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadInput, match="No space left on device; free space"):
        write_atomically(tmp_path / "x" / "file", b"data")
    assert list((tmp_path / "x").iterdir()) == []
