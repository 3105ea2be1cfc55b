"""What a cell takes: wall-clock time and peak memory of the worker."""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from vitptq.bench.bits import FLOAT_BITS
from vitptq.bench.results.record import Audit

MIB = 2**20


class Stopwatch:
    """Times named steps of one cell.

    >>> watch = Stopwatch()
    >>> with watch("evaluate"):
    ...     pass
    >>> watch.seconds["evaluate"] < 1
    True
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time the body of a `with` statement."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the body of a `with` statement out of the total."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - started

    @property
    def total(self) -> float:
        """Return the seconds since the stopwatch was made."""
        return time.perf_counter() - self._start


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of peak memory, so that a cell does not inherit the peak of the one before it."""
    gc.collect()
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else memory that is free already counts as resident
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # not Linux
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to the current resident size


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_host_mib() -> float:
    """Return the peak resident memory of this process in MiB since the last reset (Linux), else since its start."""
    try:
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_device_mib(device: torch.device) -> float | None:
    """Return the peak memory that torch allocated on a GPU in MiB; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else None


def model_mib(model: torch.nn.Module, audited: Audit) -> float:
    """Return the model's size at its nominal bits: quantised weights at their width, others at 32 bits or as stored."""
    widths = {side.module: side.bits for side in audited.operands if side.role == "weight" and side.bits is not None}
    bits = 0
    for name, parameter in model.named_parameters():
        module, _, leaf = name.rpartition(".")
        stored = min(FLOAT_BITS, 8 * parameter.element_size())  # side branches are stored in half precision
        bits += parameter.numel() * (widths.get(module, stored) if leaf == "weight" else stored)
    return bits / 8 / MIB
