"""Worker processes of this machine: what is left of a cell whose worker was lost. Whole runs: test_schedule.py."""

from __future__ import annotations

from pathlib import Path

import torch

from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Failure
from vitptq.bench.results.store import Store
from vitptq.bench.run.cell_run import failed
from vitptq.bench.run.executors.local import add_lost

STARTED = "2026-01-01T00:00:00Z"


def test_a_lost_cell_is_a_record_that_keeps_its_earlier_failures(cells: list[Cell], tmp_path: Path) -> None:
    first = Failure(kind="raised", message="first", started=STARTED)
    second = Failure(kind="hung", message="second", started=STARTED)
    before = add_lost(tmp_path, failed(cells[1], first, STARTED, torch.device("cpu")), None)
    add_lost(tmp_path, failed(cells[1], second, STARTED, torch.device("cpu")), before)
    record = Store(tmp_path).record(cells[1])
    assert record is not None
    assert record.failure == second
    assert record.earlier == (first,)
