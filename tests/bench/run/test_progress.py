"""Progress in a log file: one plain line per cell."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tests.bench.record_factory import make_cell, make_record
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
    assert re.match(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \[1/2\] tiny/test vit float W32A32 seed 0: top1 100.00  ", lines[0]
    )
    assert "left)" in lines[0]
    assert "\x1b" not in out.getvalue()


def test_rest_follows_the_estimates_and_how_they_held(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    quick, slow = make_cell(seed=1), make_cell(seed=2)
    out = io.StringIO()
    progress = RunProgress(2, {}, Console(file=out, width=60), seconds={quick.id: 10.0, slow.id: 300.0})
    assert progress._rest() == "about 0:05:10 of work"
    now[0] = 20.0  # twice as long as expected, but only a small part of the run: 300 s x (20 + 31) / (10 + 31)
    progress.finished(quick, make_record(quick))
    assert "about 0:06:13 left" in out.getvalue()
    now[0] = 50.0  # while a cell runs, the rest becomes less
    assert progress._rest() == "about 0:05:43 left"
