"""Worker processes that make the images of a training ahead of their turn."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

T = TypeVar("T")


def ahead(make: Callable[[int], T], numbers: Iterable[int], workers: int) -> Generator[T]:
    """Yield what `make` returns for each number in turn, made by `workers` processes ahead of time; 0 makes it here."""
    if not workers:
        yield from map(make, numbers)
        return
    # A forked child of a process that uses CUDA cannot be trusted.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    remaining = iter(numbers)
    try:
        pending: deque[Future[T]] = deque(pool.submit(make, number) for number in islice(remaining, 2 * workers))
        while pending:
            made = pending.popleft().result()
            pending.extend(pool.submit(make, number) for number in islice(remaining, 1))
            yield made
    finally:
        pool.shutdown(cancel_futures=True)
