"""A worker process: bound to one device, it runs the cells that it is given, one after the other."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from vitptq.bench import registry
from vitptq.bench.isolation.surroundings import Surroundings
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store
from vitptq.bench.run import arithmetic, leftovers
from vitptq.bench.run.cell_run import Run, run_cell
from vitptq.bench.run.worker_notes import START_ERROR, Speaker

PR_SET_PDEATHSIG = 1
POLL_S = 0.25


@dataclass(frozen=True)
class Orders:
    """All that a worker is told when it starts."""

    results: Path
    folder: Path
    """Where the workers of this run leave their notes."""
    devices: tuple[torch.device, ...]
    """The device of each worker; a worker takes the first that no living one has."""
    threads: int
    adapters: tuple[Path, ...]
    retry_failed: bool
    past_gate: bool
    again: str
    command: str
    parent: int
    """The process id of who started it."""
    decoders: int = 1
    """How many processes of its own a worker may have decode images: its share of the cores."""
    compiled: bool = False
    """Whether it evaluates through torch.compile."""


class Worker:
    """What a worker process keeps from one cell to the next."""

    def __init__(self, orders: Orders) -> None:
        """Take a device, make torch repeatable on it and load the adapters."""
        device, self._claim = _take_device(orders.devices, orders.folder)
        _settle(device, orders.threads)
        for adapter in orders.adapters:
            registry.add_file(adapter)
        self._speaker = Speaker(orders.folder)
        self._surroundings = Surroundings()
        self._run = Run(
            Store(orders.results),
            device,
            self._speaker.say,
            orders.retry_failed,
            orders.past_gate,
            again=orders.again,
            compiled=orders.compiled,
            surroundings=self._surroundings,
        )

    def work(self, cell: Cell) -> Record | None:
        """Run one cell; None where another process is at it."""
        self._speaker.begin(cell, self._run.device)
        try:
            with leftovers.none_left():
                record = run_cell(cell, self._run)
        finally:
            self._speaker.end()
        if record is not None and record.failure is not None and "CUDA error" in record.failure.message:
            os._exit(1)  # nothing works in this process any more; the record is written, and a new worker takes over
        if self._run.changes:
            os._exit(1)  # likewise: the record says what its method changed here
        self._surroundings.take_in_new_modules()
        return record


_worker: Worker | None = None
"""The one worker that this process is: the pool calls `start` once and `work` per cell, and hands nothing across."""


def start(orders: Orders) -> None:
    """Make this process a worker."""
    global _worker
    _die_with(orders.parent)
    leftovers.lead_a_group()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and stops the workers
    os.environ["VITPTQ_COMMAND"] = orders.command
    os.environ.setdefault("VITPTQ_DECODERS", str(orders.decoders))
    try:
        _worker = Worker(orders)
    except Exception as error:
        (orders.folder / START_ERROR).write_text(f"{type(error).__name__}: {error}")
        raise


def work(cell: Cell) -> Record | None:
    """Run one cell in this process, after `start`."""
    assert _worker is not None, "the worker was not started"
    return _worker.work(cell)


def _take_device(devices: Sequence[torch.device], folder: Path) -> tuple[torch.device, FileLock]:
    """Return the first device that no living worker has, and the claim on it, which ends with whoever holds it.

    A worker that replaces a dead one so gets its device.
    """
    while True:
        for i, device in enumerate(devices):
            claim = FileLock(folder / f"device{i}.lock")
            try:
                claim.acquire(timeout=0)
            except Timeout:
                continue
            return device, claim
        time.sleep(POLL_S)


def _settle(device: torch.device, threads: int) -> None:
    """Make torch repeatable and bind this process to its device."""
    gc.freeze()  # the packages' own objects, with which collecting garbage between cells took 0.2 s
    torch.set_num_threads(threads)
    arithmetic.make_repeatable()
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
