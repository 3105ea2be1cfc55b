"""What is said of records that are not on the board."""

from __future__ import annotations

from tests.bench.commands.command_line import TINY, vitptq
from vitptq.bench.results.cell import Cell
from vitptq.bench.run.cell_run import Run, run_cell


def test_board_says_how_many_records_have_no_usable_evidence(run: Run, cells: list[Cell]) -> None:
    record = run_cell(cells[1], run)
    assert record is not None and record.evidence is not None
    (run.store.evidence_dir / record.evidence.file).unlink()
    assert "1 records are not compared" in vitptq("board", "--results", str(run.store.root), *TINY)
