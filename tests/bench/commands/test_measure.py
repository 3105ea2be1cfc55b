"""Plans and runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.commands.command_line import TINY, vitptq
from vitptq.bench.contracts.locations import image_cache
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.store import Store
from vitptq.bench.run.cell_run import Run, run_cell


def test_plan_estimates_where_nothing_was_measured(tmp_path: Path) -> None:
    text = vitptq("plan", "imagenet", "--results", str(tmp_path))
    assert "by rough figures" in text
    assert "remaining about 0:00:00" not in text
    assert "decoded images are kept in" in text


def test_plan_shows_what_is_done(run: Run, cells: list[Cell], suite: Path) -> None:
    run_cell(cells[1], run)
    text = vitptq("plan", str(suite), "--results", str(run.store.root), *TINY)
    assert sum(line.startswith("done ") for line in text.splitlines()) == 2  # the cell and its float cell
    assert "5 cells, 2 done" in text


def test_results_that_are_a_file_stop_a_run_before_it_measures(suite: Path, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    text = vitptq("run", str(suite), "--results", str(tmp_path / "results"), *TINY, code=2)
    assert "name another with --results" in text


def test_record_of_a_newer_version_stops_nothing_and_is_left_alone(run: Run, cells: list[Cell], suite: Path) -> None:
    run_cell(cells[1], run)
    newer = run.store.records_dir / f"{cells[2].id}.json"
    newer.write_text('{"schema_version": 99}')
    results = ["--results", str(run.store.root)]
    for command in (["status", str(suite)], ["board"], ["compare", "minmax"]):
        text = vitptq(*command, *results, *TINY, code=1)
        assert "update vitptq" in text
        assert "delete" not in text
    assert "update vitptq" in vitptq("plan", str(suite), *results, *TINY)
    assert newer.read_text() == '{"schema_version": 99}'


def test_no_cache_reaches_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPTQ_NO_CACHE", "")
    assert image_cache() is not None
    vitptq("run", "no-such-suite", "--no-cache", code=2)
    assert image_cache() is None


@pytest.mark.slow
def test_a_run_in_another_precision_has_records_that_can_be_repeated(suite: Path, tmp_path: Path) -> None:
    results = ["--results", str(tmp_path / "results"), "--only", "method=minmax", "--only", "bits=W8A8", *TINY]
    text = vitptq("run", str(suite), "--precision", "bf16", *results)
    assert "2 done" in text
    (record,) = (r for r in Store(tmp_path / "results").records() if not r.cell.is_float and r.cell.precision == "bf16")
    assert "--precision bf16" in record.details.repetition.command
    again = vitptq("run", str(suite), "--precision", "bf16", "--only", f"id={record.id[:16]}", *results[:2], *TINY)
    assert "1 done" in again or "2 done" in again
