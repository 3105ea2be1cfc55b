"""Work on many things in several processes that share this one's memory, where the system can fork; else one by one."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
FEWEST = 256
"""Things for which a second process is worth its start."""
CHUNK = 64
MOST_PROCESSES = 8
_at_work: tuple[Callable[[Any], Any], Sequence[Any], int] | None = None
"""What the processes inherit: neither the work nor the things can always be pickled."""


class Spread(Generic[Result]):
    """The results of work that goes on meanwhile: as many as things, in their order."""

    def __init__(self, parts: Sequence[Future[list[Result]]], pool: ProcessPoolExecutor) -> None:
        self._parts, self._pool = parts, pool

    def results(self) -> Iterator[Result]:
        """Yield the results as they come; an error in one is raised here, and the rest is not begun."""
        try:
            for part in self._parts:
                yield from part.result()
        finally:
            self._pool.shutdown(cancel_futures=True)


class AtOnce(Spread[Result]):
    """The same where there is one process: the work is done when its result is asked for."""

    def __init__(self, work: Callable[[Item], Result], things: Sequence[Item]) -> None:
        self._done = (work(thing) for thing in things)

    def results(self) -> Iterator[Result]:
        """Yield the results."""
        yield from self._done


def spread(work: Callable[[Item], Result], things: Sequence[Item], weight: int = 1) -> Spread[Result]:
    """Begin to do `work` on each of many things, whose results can be pickled; the caller may do something else.

    `weight` is how many usual things one of these counts for, when they are groups of such.
    """
    global _at_work
    processes = min(cores(), MOST_PROCESSES, len(things) * weight // FEWEST + 1)
    if processes < 2 or not _forks():
        return AtOnce(work, things)
    chunk = max(1, CHUNK // weight)
    _at_work = work, things, chunk
    gc.freeze()  # or the first collection in a child writes to, and so copies, every page of memory
    pool = ProcessPoolExecutor(processes, get_context("fork"))
    parts = [pool.submit(_part, start) for start in range(0, len(things), chunk)]
    return Spread(parts, pool)


@contextmanager
def without_collections() -> Iterator[None]:
    """Leave cyclic garbage alone inside: with a million long-lived objects each search for it takes a second."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _part(start: int) -> list[Any]:
    assert _at_work is not None
    work, things, chunk = _at_work
    return [work(thing) for thing in things[start : start + chunk]]


def _forks() -> bool:
    # macOS can fork, but its system libraries must not be used in the child
    return sys.platform == "linux"
