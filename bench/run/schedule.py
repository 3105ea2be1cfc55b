"""Run many cells on worker processes: a cell that hangs, dies or runs out of memory takes nothing else with it."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, TimeoutError, wait
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pebble import ProcessExpired, ProcessPool

from vitptq.bench import registry
from vitptq.bench.errors import BadInput
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Failure, FailureKind, Record
from vitptq.bench.results.store import Store
from vitptq.bench.results.suites import float_cell
from vitptq.bench.run import leftovers, provenance, worker_notes
from vitptq.bench.run.cell_run import cell_fidelity, failed
from vitptq.bench.run.compiled import refuse_without_compiler
from vitptq.bench.run.worker import POLL_S, Orders, start, work
from vitptq.bench.run.worker_notes import Step

BUSY_S = 1.0
"""How long to wait before asking again for a cell that another process is working on."""
WORKER_ENVIRONMENT = {
    # glibc otherwise returns large blocks to the kernel after every operator; a forward pass took 3 times as long
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is repeatable only with it
}


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


OnRecord = Callable[[Cell, Record], None]
OnSteps = Callable[[list[Step]], None]


def run_cells(cells: Sequence[Cell], plan: Plan, on_record: OnRecord, on_steps: OnSteps) -> None:
    """Measure every cell that has no record yet; float cells first, because the others need their gate.

    Returns when every cell has a record, also those that other processes work on in the same results folder, or when
    `plan.until` has come and what was begun is done.
    """
    plan = replace(plan, results=plan.results.absolute())
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    Store(plan.results).sweep()
    asked = {cell.id for cell in cells}
    for adapters, group in _groups(cells, plan):
        _run_group(
            group,
            replace(plan, adapters=adapters),
            lambda cell, record: on_record(cell, record) if cell.id in asked else None,
            on_steps,
        )


def _groups(cells: Sequence[Cell], plan: Plan) -> Iterator[tuple[tuple[Path, ...], list[Cell]]]:
    """Yield the cells that may share processes, with the files that these load: a method's own file is in no other's.

    The float cells that such a method needs come with the first, so that nothing of the file is near them.
    """
    own = registry.own_files()
    shared = tuple(path for path in plan.adapters if path not in own.values())
    store = Store(plan.results)
    first = {cell.id: cell for cell in cells if cell.method not in own}
    for cell in cells:
        if cell.method in own:
            reference = float_cell(registry.task(cell.task, cell.edition), cell.model)
            if reference.id not in first and store.record(reference) is None:
                first[reference.id] = reference
    if first:
        yield shared, list(first.values())
    for path in dict.fromkeys(own.values()):
        group = [cell for cell in cells if own.get(cell.method) == path]
        if group:
            yield (*shared, path), group


def _run_group(cells: Sequence[Cell], plan: Plan, on_record: OnRecord, on_steps: OnSteps) -> None:
    """Measure cells in a pool of worker processes of their own."""
    devices = choose_devices(plan.device)
    if plan.compiled:
        refuse_without_compiler(devices[0])
    workers = min(plan.workers or len(devices), len(cells))
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="vitptq-") as name:
        folder = Path(name)
        orders = Orders(
            plan.results, folder, tuple(devices[i % len(devices)] for i in range(workers)), _threads(workers),
            plan.adapters, plan.retry_failed, plan.past_gate, plan.again, provenance.command(), os.getpid(),
            max(1, _cores() // workers), plan.compiled,
        )  # fmt: skip
        pool = ProcessPool(max_workers=workers, context=context, initializer=start, initargs=(orders,))
        try:
            for wave in ([c for c in cells if c.is_float], [c for c in cells if not c.is_float]):
                todo = list(wave)
                while todo and time.monotonic() <= plan.until:
                    todo = _run_wave(todo, pool, plan, folder, on_record, on_steps)
                    time.sleep(BUSY_S if todo else 0)
            pool.close()  # type: ignore[no-untyped-call]
        except BrokenExecutor:
            raise BadInput(f"the workers cannot start: {worker_notes.start_error(folder)}") from None
        finally:
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()


def choose_devices(name: str) -> list[torch.device]:
    """Return the devices to use, one worker each: every GPU for "auto" and "cuda", else the one that is named."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in ("auto", "cuda") and gpus:
        return [torch.device("cuda", i) for i in range(gpus)]
    if name in ("auto", "cpu"):
        return [torch.device("cpu")]
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f'unknown device "{name}"; known: auto, cpu, cuda, cuda:N') from None
    if device.type != "cuda" or (device.index or 0) >= gpus:
        raise BadInput(
            f'device "{name}" is not here; this machine has: cpu' + "".join(f", cuda:{i}" for i in range(gpus))
        )
    return [device]


def _run_wave(
    cells: Sequence[Cell],
    pool: ProcessPool,
    plan: Plan,
    folder: Path,
    on_record: OnRecord,
    on_steps: OnSteps,
) -> list[Cell]:
    """Run cells that do not wait for each other; return those that another process is working on."""
    store = Store(plan.results)
    before, _ = store.of(cells)
    waiting: dict[Future[Record | None], Cell]
    waiting = {pool.schedule(work, args=[cell], timeout=plan.limit_s): cell for cell in cells}
    busy = []
    while waiting:
        finished, _ = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
        on_steps(worker_notes.steps(folder))
        if time.monotonic() > plan.until:
            waiting = {future: cell for future, cell in waiting.items() if future.running() or not future.cancel()}
        for future in finished:
            if future not in waiting:
                continue
            cell = waiting.pop(future)
            record = _outcome(future, cell, before.get(cell.id), plan, folder)
            if record is None:
                busy.append(cell)
            else:
                on_record(cell, record)
    return busy


def _outcome(
    future: Future[Record | None], cell: Cell, before: Record | None, plan: Plan, folder: Path
) -> Record | None:
    """Return the record of a finished cell; where its worker was lost, write the record that says so."""
    try:
        return future.result()
    except TimeoutError:
        kind: FailureKind = "hung"
        message = f"no result after {plan.limit_s:.0f} s; raise the limit with --limit if the cell needs longer"
    except ProcessExpired as error:
        kind = "killed"
        message = f"the worker died (exit code {error.exitcode})"
        if error.exitcode == -signal.SIGKILL:
            message += "; the operating system kills like this when host memory runs out: try fewer workers"
    except (KeyboardInterrupt, SystemExit) as error:  # raised by an adapter: a worker does not hear Ctrl-C
        kind, message = "raised", f"{type(error).__name__}: {error}"
    leftovers.end_group(worker_notes.worker_of(folder, cell))
    store = Store(plan.results)
    now = store.of([cell])[0].get(cell.id)
    if now is not None and now != before:  # it had written its record before it was lost
        return now
    started, device = worker_notes.begun(folder, cell)
    record = failed(cell, Failure(kind=kind, message=message, started=started), started, device, cell_fidelity(cell))
    if before is not None and before.failure is not None:
        record = record.model_copy(update={"earlier": (*before.earlier, before.failure)})
    store.add(record)
    return record


def _threads(workers: int) -> int:
    """Return the threads of each worker: its share of the cores, or fewer where OMP_NUM_THREADS says so."""
    share = max(1, _cores() // workers)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(asked)) if asked.isdecimal() and int(asked) else share


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
