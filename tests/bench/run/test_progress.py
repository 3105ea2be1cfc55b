"""Progress in a log file: one plain line per cell."""

from __future__ import annotations

import io

from rich.console import Console

from vitptq.bench.results.cell import Cell
from vitptq.bench.run.cell_run import Run, run_cell
from vitptq.bench.run.progress import RunProgress
from vitptq.bench.run.worker_notes import Step


def test_log_has_one_plain_line_per_cell(run: Run, cells: list[Cell]) -> None:
    out = io.StringIO()
    with RunProgress(2, {("tiny", "test"): "top1"}, Console(file=out, width=60)) as progress:
        for cell in cells[:2]:
            record = run_cell(cell, run)
            assert record is not None
            progress.steps([Step(cell.label(), "evaluate", 1, 2)])
            progress.finished(cell, record)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[1/2] tiny/test vit float W32A32 seed 0: top1 100.00  ")
    assert "left)" in lines[0]
    assert "\x1b" not in out.getvalue()
