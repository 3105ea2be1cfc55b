"""How cells are run, and who is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record
from vitptq.bench.run.worker_notes import Step

ExecutorName = Literal["local", "ray"]
OnRecord = Callable[[Cell, Record], None]
OnSteps = Callable[[list[Step]], None]


@dataclass(frozen=True)
class Plan:
    """How to run: where results go, on what, how many at a time, and for how long a cell may take."""

    results: Path
    device: str = "auto"
    workers: int | None = None
    limit_s: float = 4 * 3600
    retry_failed: bool = False
    past_gate: bool = False
    adapters: tuple[Path, ...] = ()
    """Files with methods or tasks that the workers load: every one those with tasks, the others with their method."""
    again: str = ""
    """The command that repeats the run, to which a record adds the filters for its cell."""
    compiled: bool = False
    """Evaluate through torch.compile."""
    until: float = math.inf
    """Moment of `time.monotonic()` from which on no cell is begun."""
    executor: ExecutorName = "local"
    address: str = "auto"
    """Of the Ray cluster."""


class Executor(Protocol):
    """Where cells run."""

    def run_wave(self, cells: Sequence[Cell], on_record: OnRecord, on_steps: OnSteps) -> list[Cell]:
        """Run cells that do not wait for each other; return those that another process is working on."""
