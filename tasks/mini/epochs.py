"""The images of a training: what one epoch shows, and worker processes that make epochs ahead of their turn."""

from __future__ import annotations

import math
import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch.nn import functional

from vitptq.tasks.mini.compose import HARD, STANDARD, compose
from vitptq.tasks.mini.material import Bytes, Digits, Ints, digits

Epoch = tuple[Bytes, Ints]
T = TypeVar("T")


# No slots: the command line of `train` reads its defaults from the class.
@dataclass(frozen=True)
class Recipe:
    """What decides the weights; stored beside them."""

    epochs: int = 100
    images: int = 5000
    batch: int = 128
    rate: float = 1e-3
    decay: float = 0.05
    warmup: int = 4
    smoothing: float = 0.1
    clip: float = 1.0
    calm: float = 0.25
    hard: int = 0
    bfloat16: bool = False
    seed: int = 0


def epoch_images(recipe: Recipe, epoch: int) -> Epoch:
    """Return the composites and labels of one epoch: digits of the fit pool, each warped anew, in random order."""
    generator = np.random.Generator(np.random.PCG64([recipe.seed, epoch, 0]))
    pool = digits("fit")
    order = np.concatenate(
        [generator.permutation(len(pool.labels)) for _ in range(-(-recipe.images // len(pool.labels)))]
    )
    rows = order[: recipe.images]
    warped = warp(pool.images[rows], generator)
    composites = compose(
        "fit",
        np.arange(len(rows)),
        generator,
        material=Digits(warped, pool.labels[rows], pool.rows[rows]),
        difficulty=HARD if epoch < recipe.hard else STANDARD,
        clutter=_clutter(recipe, epoch),
    )
    return composites.images, composites.labels


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


def _clutter(recipe: Recipe, epoch: int) -> float:
    """Return how much of the photographs' contrast is shown: from none to all over the first `calm` of the epochs."""
    # On full backgrounds from the start, the transformers stay at chance for many epochs.
    return min(1.0, epoch / max(1.0, recipe.calm * recipe.epochs))


def warp(images: Bytes, generator: np.random.Generator) -> Bytes:
    """Return digits (N, 28, 28) rotated by up to 15 degrees and sheared by up to 0.2."""
    # 3,400 digits are few; without this the ViT learns them by heart.
    angle, shear = (generator.random((2, len(images))) * 2 - 1) * np.array([[math.pi / 12], [0.2]])
    cosine, sine, none = np.cos(angle), np.sin(angle), np.zeros(len(images))
    matrix = np.stack([cosine, shear * cosine - sine, none, sine, shear * sine + cosine, none], axis=1).reshape(
        -1, 2, 3
    )
    source = torch.from_numpy(images).float().unsqueeze(1)
    grid = functional.affine_grid(torch.from_numpy(matrix).float(), list(source.shape), align_corners=False)
    warped = functional.grid_sample(source, grid, align_corners=False)
    return warped.squeeze(1).round().clamp(0, 255).byte().numpy()
