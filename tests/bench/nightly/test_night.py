"""A night's lock, its state and what it puts aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.bench.errors import BadInput
from vitptq.bench.nightly.night import AlreadyRunning, Night
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.history import History
from vitptq.bench.run.cell_run import Run, run_cell


def test_second_night_in_one_folder_is_refused(tmp_path):
    with Night(tmp_path).alone(), pytest.raises(AlreadyRunning), Night(tmp_path).alone():
        pass


def test_killed_night_is_gone_on_with(tmp_path):
    first = Night(tmp_path)
    with first.alone():
        assert not first.begin("2026-12-01T00:00:00Z")
    second = Night(tmp_path)
    with second.alone():
        assert second.begin("2026-12-02T00:00:00Z")
    assert second.started == "2026-12-01T00:00:00Z"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"started": "yesterday"}'])
def test_state_that_says_nothing_begins_a_new_night(tmp_path, text):
    night = Night(tmp_path)
    with night.alone():
        (tmp_path / ".nightly" / "current.json").write_text(text)
        assert not night.begin("2026-12-02T00:00:00Z")
    assert night.started == "2026-12-02T00:00:00Z"


def test_folder_that_cannot_be_made_is_one_sentence():
    with (
        pytest.raises(BadInput, match=r"no night can begin in /dev/null/x: Not a directory"),
        Night(Path("/dev/null/x")).alone(),
    ):
        pass


def test_record_of_another_environment_is_kept_beside(run: Run, cells: list[Cell]):
    record = run_cell(cells[0], run)
    night = Night(run.store.root)
    night.retire(History.read(night.store.root).measured)
    assert run.store.record(cells[0]) is None
    found = History.read(night.store.root)
    assert [kept.id for kept in found.measured] == [record.id]
    assert found.current == {}


def test_environment_that_comes_back_replaces_nothing_that_was_put_aside(run: Run, cells: list[Cell]):
    night = Night(run.store.root)
    for _ in range(2):
        run_cell(cells[0], run)
        night.retire(History.read(night.store.root).current.values())
    kept = History.read(night.store.root).measured
    assert len({each.folder for each in kept}) == 2
    assert {each.environment for each in kept} == {kept[0].environment}
    assert all((night.store.root / "earlier" / each.folder / "evidence" / f"{each.id}.npz").is_file() for each in kept)
