"""Worker processes of this machine: a cell that hangs, dies or runs out of memory takes nothing else with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, TimeoutError, wait
from pathlib import Path
from types import TracebackType

from pebble import ProcessExpired, ProcessPool

from vitptq.bench.errors import BadInput
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Failure, FailureKind, Record
from vitptq.bench.results.store import Store
from vitptq.bench.run import leftovers, provenance, worker_notes
from vitptq.bench.run.cell_run import cell_fidelity, failed
from vitptq.bench.run.compiled import refuse_without_compiler
from vitptq.bench.run.devices import choose_devices, threads
from vitptq.bench.run.plan import OnRecord, OnSteps, Plan
from vitptq.bench.run.worker import POLL_S, Orders, start, work
from vitptq.bench.spread import cores

WORKER_ENVIRONMENT = {
    # glibc otherwise returns large blocks to the kernel after every operator; a forward pass took 3 times as long
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is repeatable only with it
}


class LocalProcesses:
    """A pool of worker processes, one per device or as many as the plan says. Use as a context manager."""

    def __init__(self, plan: Plan, most: int) -> None:
        """Prepare at most `most` workers; they start with the first wave."""
        for name, value in WORKER_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        devices = choose_devices(plan.device)
        if plan.compiled:
            refuse_without_compiler(devices[0])
        workers = min(plan.workers or len(devices), most)
        self._plan = plan
        self._temporary = leftovers.TemporaryFolder()
        self._folder = self._temporary.path
        orders = Orders(
            plan.results, self._folder, tuple(devices[i % len(devices)] for i in range(workers)), threads(workers),
            plan.adapters, plan.retry_failed, plan.past_gate, plan.again, provenance.command(), os.getpid(),
            max(1, cores() // workers), plan.compiled,
        )  # fmt: skip
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(max_workers=workers, context=context, initializer=start, initargs=(orders,))

    def __enter__(self) -> LocalProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._pool.close()  # type: ignore[no-untyped-call]
        self.stop()

    def stop(self) -> None:
        """End the workers, whatever they are at."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
        self._temporary.remove()

    def run_wave(self, cells: Sequence[Cell], on_record: OnRecord, on_steps: OnSteps) -> list[Cell]:
        """Run cells that do not wait for each other; return those that another process is working on."""
        before, _ = Store(self._plan.results).of(cells)
        waiting: dict[Future[Record | None], Cell]
        waiting = {self._scheduled(cell): cell for cell in cells}
        busy = []
        while waiting:
            finished, _ = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
            on_steps(worker_notes.steps(self._folder))
            if time.monotonic() > self._plan.until:
                waiting = {future: cell for future, cell in waiting.items() if future.running() or not future.cancel()}
            for future in finished:
                if future not in waiting:
                    continue
                cell = waiting.pop(future)
                record = self._outcome(future, cell, before.get(cell.id))
                if record is None:
                    busy.append(cell)
                else:
                    on_record(cell, record)
        return busy

    def _scheduled(self, cell: Cell) -> Future[Record | None]:
        try:
            return self._pool.schedule(work, args=[cell], timeout=self._plan.limit_s)
        except BrokenExecutor:
            raise self._cannot_start() from None

    def _cannot_start(self) -> BadInput:
        return BadInput(f"the workers cannot start: {worker_notes.start_error(self._folder)}")

    def _outcome(self, future: Future[Record | None], cell: Cell, before: Record | None) -> Record | None:
        """Return the record of a finished cell; where its worker was lost, write the record that says so."""
        try:
            return future.result()
        except BrokenExecutor:
            raise self._cannot_start() from None
        except TimeoutError:
            kind: FailureKind = "hung"
            limit = self._plan.limit_s
            message = f"no result after {limit:.0f} s; raise the limit with --limit if the cell needs longer"
        except ProcessExpired as error:
            kind = "killed"
            message = f"the worker died (exit code {error.exitcode})"
            if error.exitcode == -signal.SIGKILL:
                message += "; the operating system kills like this when host memory runs out: try fewer workers"
        except (KeyboardInterrupt, SystemExit) as error:  # raised by an adapter: a worker does not hear Ctrl-C
            kind, message = "raised", f"{type(error).__name__}: {error}"
        leftovers.end_group(worker_notes.worker_of(self._folder, cell))
        now = Store(self._plan.results).of([cell])[0].get(cell.id)
        if now is not None and now != before:  # it had written its record before it was lost
            return now
        started, device = worker_notes.begun(self._folder, cell)
        failure = Failure(kind=kind, message=message, started=started)
        return add_lost(self._plan.results, failed(cell, failure, started, device, cell_fidelity(cell)), before)


def add_lost(results: Path, record: Record, before: Record | None) -> Record:
    """Write the record of a cell whose worker was lost, and return it; `before` is what an earlier attempt left."""
    if before is not None and before.failure is not None:
        record = record.model_copy(update={"earlier": (*before.earlier, before.failure)})
    Store(results).add(record)
    return record
