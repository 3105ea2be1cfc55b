"""Run many cells on worker processes: a cell that hangs, dies or runs out of memory takes nothing else with it."""

from __future__ import annotations

import ctypes
import gc
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, TimeoutError, wait
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from pebble import ProcessExpired, ProcessPool

from vitptq.bench import registry
from vitptq.bench.errors import BadInput
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Failure, FailureKind, Record
from vitptq.bench.results.store import Store
from vitptq.bench.run import provenance
from vitptq.bench.run.cell_run import Run, cell_fidelity, failed, run_cell

PR_SET_PDEATHSIG = 1
SAY_EVERY_S = 0.5
POLL_S = 0.25
BUSY_S = 1.0
"""How long to wait before asking again for a cell that another process is working on."""


STALE_S = 60
START_ERROR = "start-error.txt"
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
    adapters: tuple[Path, ...] = ()
    """Files with methods or tasks that every worker must load."""
    again: str = ""
    """The command that repeats the run, to which a record adds the filters for its cell."""


@dataclass(frozen=True)
class Step:
    """What one worker is doing."""

    label: str
    step: str
    done: int
    total: int


OnRecord = Callable[[Cell, Record], None]
OnSteps = Callable[[list[Step]], None]


def run_cells(cells: Sequence[Cell], plan: Plan, on_record: OnRecord, on_steps: OnSteps) -> None:
    """Measure every cell that has no record yet; float cells first, because the others need their gate.

    Returns when every cell has a record, also those that other processes work on in the same results folder.
    """
    devices = choose_devices(plan.device)
    workers = min(plan.workers or len(devices), max(1, len(cells)))
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    Store(plan.results).sweep()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="vitptq-") as name:
        folder = Path(name)
        slots = [devices[i % len(devices)] for i in range(workers)]
        start = (plan, slots, _threads(workers), folder, provenance.command(), os.getpid())
        pool = ProcessPool(max_workers=workers, context=context, initializer=_start, initargs=start)
        try:
            for wave in ([c for c in cells if c.is_float], [c for c in cells if not c.is_float]):
                todo = list(wave)
                while todo:
                    todo = _run_wave(todo, pool, plan, folder, on_record, on_steps)
                    time.sleep(BUSY_S if todo else 0)
            pool.close()  # type: ignore[no-untyped-call]
        except BrokenExecutor:
            raise BadInput(f"the workers cannot start: {_start_error(folder)}") from None
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
    before = {cell.id: store.record(cell) for cell in cells}
    waiting: dict[Future[Record | None], Cell]
    waiting = {pool.schedule(_work, args=[cell], timeout=plan.limit_s): cell for cell in cells}
    busy = []
    while waiting:
        finished, _ = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
        on_steps(_steps(folder))
        for future in finished:
            cell = waiting.pop(future)
            record = _outcome(future, cell, before[cell.id], plan, folder)
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
    store = Store(plan.results)
    now = store.record(cell)
    if now is not None and now != before:  # it had written its record before it was lost
        return now
    started, device = _begun(folder, cell)
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


def _steps(folder: Path) -> list[Step]:
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            step, written = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if Path(f"/proc/{path.stem}").exists() or time.time() - written < STALE_S:
            found.append(Step(*step))
    return found


def _begun(folder: Path, cell: Cell) -> tuple[str, torch.device]:
    """Return when a cell was begun and on what, from the note that its worker left."""
    try:
        started, device = (folder / f"{cell.id}.begun").read_text().split()
    except (OSError, ValueError):
        return provenance.now(), torch.device("cpu")
    return started, torch.device(device)


def _start_error(folder: Path) -> str:
    try:
        return (folder / START_ERROR).read_text()
    except OSError:
        return "they died before they could say why; the operating system kills like this when memory runs out"


# What follows runs in the worker processes.

_run: Run | None = None
_folder: Path = Path()
_slot: FileLock | None = None


def _start(plan: Plan, slots: list[torch.device], threads: int, folder: Path, command: str, parent: int) -> None:
    global _run, _folder
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and stops the workers
    os.environ["VITPTQ_COMMAND"] = command
    _folder = folder
    try:
        device = _take_slot(slots)
        _settle(device, threads)
        for adapter in plan.adapters:
            registry.add_file(adapter)
    except Exception as error:
        (folder / START_ERROR).write_text(f"{type(error).__name__}: {error}")
        raise
    _run = Run(Store(plan.results), device, _say, plan.retry_failed, plan.again)


def _take_slot(slots: list[torch.device]) -> torch.device:
    """Return the device of the first slot that no living worker holds: a replacement gets the place of the dead."""
    global _slot
    while True:
        for i, device in enumerate(slots):
            lock = FileLock(_folder / f"slot{i}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _slot = lock  # held, and so kept, for the life of the process
            return device
        time.sleep(POLL_S)


def _settle(device: torch.device, threads: int) -> None:
    """Make torch repeatable and bind this process to its device."""
    gc.freeze()  # the packages' own objects, with which collecting garbage between cells took 0.2 s
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.init()
        torch.empty(1, device=device)  # the allocator's figures exist only after its first use


def _die_with(parent: int) -> None:
    """Have the kernel kill this worker when the parent dies, so that a killed run leaves nothing running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)


_label = ""
_last_said = 0.0


def _work(cell: Cell) -> Record | None:
    global _label
    assert _run is not None, "the worker was not started"
    _label = cell.label()
    (_folder / f"{cell.id}.begun").write_text(f"{provenance.now()} {_run.device}")
    _say("start", 0, 1)
    try:
        record = run_cell(cell, _run)
    finally:
        (_folder / f"{os.getpid()}.json").unlink(missing_ok=True)
    if record is not None and record.failure is not None and "CUDA error" in record.failure.message:
        os._exit(1)  # nothing works in this process any more; the record is written, and a new worker takes over
    return record


def _say(step: str, done: int, total: int) -> None:
    """Leave a note of what this worker does; a file needs no lock that a killed worker could keep."""
    global _last_said
    if 0 < done < total and time.monotonic() - _last_said < SAY_EVERY_S:
        return
    _last_said = time.monotonic()
    path = _folder / f"{os.getpid()}.json"
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps([[_label, step, done, total], time.time()]))
        temporary.replace(path)
    except OSError:
        pass  # progress is a courtesy: a full disk is reported by what matters
