"""Whole files only, also on file systems without hard links or where a folder cannot be synced."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from vitptq.bench.errors import BadInput
from vitptq.bench.files import write_atomically


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


def test_without_hard_links_a_file_is_created_exclusively(no_links: None, tmp_path: Path) -> None:
    write_atomically(tmp_path / "records" / "a.json", b"{}", replace=False)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "records" / "a.json", b"[]", replace=False)
    assert (tmp_path / "records" / "a.json").read_bytes() == b"{}"
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["a.json"]


def test_with_hard_links_an_existing_file_stays(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.json", b"{}", replace=False)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "a.json", b"[]", replace=False)
    assert (tmp_path / "a.json").read_bytes() == b"{}"


def test_name_that_a_killed_run_took_is_used(no_links: None, tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    write_atomically(tmp_path / "a.json", b"{}", replace=False)
    assert (tmp_path / "a.json").read_bytes() == b"{}"


def test_folder_that_cannot_be_synced_is_tolerated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    write_atomically(tmp_path / "a.json", b"{}", replace=False)
    assert (tmp_path / "a.json").read_bytes() == b"{}"


def test_folder_under_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"cannot write .*file/a\.json: File exists; free space or choose"):
        write_atomically(tmp_path / "file" / "a.json", b"{}")


def test_full_disk_leaves_no_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadInput, match="No space left on device; free space"):
        write_atomically(tmp_path / "x" / "file", b"data")
    assert list((tmp_path / "x").iterdir()) == []
