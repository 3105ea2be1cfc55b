"""Tasks on files: state of a set of files, and what makes a listed image missing."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from vitptq.bench.errors import Missing
from vitptq.tasks.file_task import decoders, plain, state_of
from vitptq.tasks.mini.classification import MiniImageNet
from vitptq.tasks.mini.data.generated import Counts


def test_the_state_changes_with_files_and_with_how_they_are_read(tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        file.write_bytes(b"1234")
    before = state_of(files, {"crop": 0.9})
    assert state_of(files, {"crop": 0.9}) == before
    assert len({before, state_of(files[:1], {"crop": 0.9}), state_of(files, {"crop": 0.8})}) == 3
    os.utime(files[1], ns=(1, 1))
    assert state_of(files, {"crop": 0.9}) != before


def test_configs_become_json_values() -> None:
    assert plain({"size": (3, 32, 32)}) == {"size": [3, 32, 32]}


def test_listed_images_that_are_not_there_are_counted(tmp_path: Path) -> None:
    task = MiniImageNet(root=tmp_path, counts=Counts(train=6, val=10))
    names = task.calibration_names(6, 0)
    for name in names[:4]:
        (task.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (task.folder / name).write_bytes(b"image")
    assert len(task.listed_files(4, 0)) == 4
    with pytest.raises(Missing, match=r"is not there \(2 of 6 listed calibration images are missing\)"):
        task.listed_files(6, 0)


@pytest.mark.parametrize(
    ("free", "share", "expected"),
    [(64 * 2**20, "", 0), (2**40, "", min(16, len(os.sched_getaffinity(0)))), (2**40, "3", 3), (2**30, "64", 4)],
)
def test_images_are_decoded_by_a_workers_share_of_the_cores_and_as_shared_memory_has_room(
    monkeypatch: pytest.MonkeyPatch, free: int, share: str, expected: int
) -> None:
    monkeypatch.setenv("VITPTQ_DECODERS", share)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    assert decoders() == expected
