"""Several results folders read as one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.bench.board_factory import finished
from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.errors import Missing
from vitptq.bench.results.folders import Folders
from vitptq.bench.results.store import Store


def put(root: Path, *, day: int = 1, seed: int = 0, score: float = 80.0) -> str:
    record = make_record(make_cell(seed=seed), score=score, provenance=finished(day))
    Store(root).add(record)
    return record.id


def commit(root: Path) -> None:
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "results"]):
        subprocess.run([*git, *command], check=True)


def test_one_folder_says_nothing_of_where_its_records_lie(tmp_path: Path) -> None:
    put(tmp_path / "results")
    for roots in ([tmp_path / "results"], [tmp_path / "none", tmp_path / "results"]):
        folders = Folders(roots)
        folders.require()
        assert len(folders.all()[0]) == 1
        assert not folders.origins.of


def test_records_of_the_last_commit_are_told_from_those_measured_here(tmp_path: Path) -> None:
    there, here = tmp_path / "results", tmp_path / "local"
    committed = put(there)
    commit(there)
    later, local = put(there, seed=1), put(here, seed=2)
    folders = Folders([there, here])
    folders.all()
    assert folders.origins.of == {committed: "committed", later: "here", local: "here"}


def test_newest_record_of_a_cell_counts_and_the_older_stays_beside_it(tmp_path: Path) -> None:
    there, here = tmp_path / "results", tmp_path / "local"
    put(there, day=2, score=70.0)
    cell = put(here, day=3, score=71.0)
    folders = Folders([there, here])
    (record,), _ = folders.all()
    assert record.scores == {"top1": 71.0}
    assert folders.store_of(record).root == here
    (older,) = folders.origins.repeats[cell]
    assert older.record.scores == {"top1": 70.0}


def test_copy_of_a_record_is_no_second_measurement(tmp_path: Path) -> None:
    for name in ("results", "local"):
        put(tmp_path / name)
    folders = Folders([tmp_path / "results", tmp_path / "local"])
    assert len(folders.all()[0]) == 1
    assert not folders.origins.repeats


def test_folders_without_any_record_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"none of the results folders .*one, .*two holds a record"):
        Folders([tmp_path / "one", tmp_path / "two"]).require()
