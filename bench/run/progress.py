"""Progress of a run: bars on a terminal, one line per finished cell in a log file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record
from vitptq.bench.run.time_estimate import clock
from vitptq.bench.run.worker_notes import Step

HEARTBEAT_S = 30.0
BELIEF = 0.1
"""Share of the whole run for which the estimates are believed as they stand."""


class RunProgress:
    """Shows how far a run is. Use as a context manager; `finished` and `steps` are the callbacks of the scheduler."""

    def __init__(
        self,
        total: int,
        metric: dict[tuple[str, str], str],
        console: Console | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        """Show `total` cells; `metric` ranks in each task, `seconds` are what the cells are expected to take, by id."""
        self.total = total
        self.metric = metric
        self.done = 0
        self._expected = dict(seconds or {})
        self._passed = 0.0
        """Seconds that the finished cells were expected to take."""
        self.console = console or Console()
        self.started = self._last_finish = self._last_line = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console, disable=not self.console.is_terminal,
        )  # fmt: skip
        self._all: TaskID = self._bars.add_task("cells", total=total, left=self._rest())
        self._workers: dict[str, TaskID] = {}

    def __enter__(self) -> RunProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def finished(self, cell: Cell, record: Record) -> None:
        """Print one line for a finished cell."""
        self.done += 1
        self._last_finish = time.monotonic()
        self._passed += self._expected.pop(cell.id, 0.0)
        self._bars.update(self._all, completed=self.done, left=self._rest())
        self._line(f"[{self.done:>{len(str(self.total))}}/{self.total}] {cell.label()}: {self._outcome(cell, record)}")

    def steps(self, steps: list[Step]) -> None:
        """Show what the workers do now."""
        for label in set(self._workers) - {step.label for step in steps}:
            self._bars.remove_task(self._workers.pop(label))
        for step in steps:
            if step.label not in self._workers:
                self._workers[step.label] = self._bars.add_task(step.label, total=step.total, left="")
            text = f"  {step.label}: {step.step}"
            self._bars.update(self._workers[step.label], description=text, completed=step.done, total=step.total)
        if not self.console.is_terminal and steps and time.monotonic() - self._last_line > HEARTBEAT_S:
            self._line("; ".join(f"{step.label}: {step.step} {step.done}/{step.total}" for step in steps))

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        rest = self._rest()
        line = f"{datetime.now():%Y-%m-%d %H:%M:%S}  {text}" + (f"  ({rest})" if rest else "")
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _rest(self) -> str:
        """Say how long the rest will take, by how the estimates held so far, or by the mean where there are none."""
        if self.done >= self.total:
            return ""
        # Up to the last finished cell: what the running ones have taken belongs to cells that are still to come.
        gone, coming = self._last_finish - self.started, sum(self._expected.values())
        running = time.monotonic() - self._last_finish
        if coming and self._passed:
            # The estimates' own word counts as a tenth of the run, so that one slow first cell does not decide.
            believed = BELIEF * (self._passed + coming)
            left = coming * (gone + believed) / (self._passed + believed)
            return f"about {clock(max(0.0, left - running))} left"
        if self.done:
            return f"about {clock((self.total - self.done) * gone / self.done)} left"
        return f"about {clock(coming)} of work" if coming else ""

    def _outcome(self, cell: Cell, record: Record) -> str:
        if record.status == "failed" and record.failure:
            return f"{record.failure.headline}: {record.failure.message}"
        name = self.metric.get((cell.task, cell.edition), next(iter(record.scores), ""))
        seconds = record.costs.total_s if record.costs else 0.0
        gate = "" if record.counts else "  does not count: float gate"
        return f"{name} {record.scores.get(name, float('nan')):.2f}  {seconds:.1f} s{gate}"
