"""Records of a comparison, each with the evidence of its own folder."""

from __future__ import annotations

from vitptq.bench.nightly.night import Night
from vitptq.bench.nightly.whole_records import WholeRecords
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.history import History
from vitptq.bench.run.cell_run import Run, run_cell


def test_one_cell_in_two_folders_has_the_noise_of_each(run: Run, cells: list[Cell]):
    float_cell = next(cell for cell in cells if cell.is_float)
    run_cell(float_cell, run)
    Night(run.store.root).retire(History.read(run.store.root).measured)
    run_cell(float_cell, run)
    history, whole = History.read(run.store.root), WholeRecords()
    records = whole.read(history, history.measured)
    assert len({record.id for record in records}) == 1
    assert [len(whole.of(record)) for record in records] == [1, 1]


def test_record_that_cannot_be_read_is_named(run: Run, cells: list[Cell]):
    run_cell(next(cell for cell in cells if cell.is_float), run)
    history, whole = History.read(run.store.root), WholeRecords()
    next(run.store.records_dir.iterdir()).write_text("{")
    assert whole.read(history, history.measured) == []
    assert "is not JSON" in whole.problems[0]
