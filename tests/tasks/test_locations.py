"""Where data sets and checkpoints are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.tasks.locations import checkpoint_root, data_root


def test_folders_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VITPTQ_DATA", raising=False)
    monkeypatch.delenv("VITPTQ_CHECKPOINTS", raising=False)
    assert (data_root(), checkpoint_root()) == (Path("data"), Path("data/checkpoints"))
    monkeypatch.setenv("VITPTQ_DATA", str(tmp_path))
    assert checkpoint_root() == tmp_path / "checkpoints"
    monkeypatch.setenv("VITPTQ_CHECKPOINTS", str(tmp_path / "weights"))
    assert checkpoint_root() == tmp_path / "weights"
