"""The images that train a classifier: what one epoch shows, a function of the recipe and its number alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitptq.tasks.mini.data.compose_digit import HARD, STANDARD, compose
from vitptq.tasks.mini.data.material import Bytes, Digits, Ints, digits
from vitptq.tasks.mini.training.loop import Recipe
from vitptq.tasks.mini.training.warp import warp

Epoch = tuple[Bytes, Ints]


@dataclass(frozen=True)
class ClassifierRecipe(Recipe):
    """What decides the weights of a classifier."""

    epochs: int = 100
    images: int = 5000
    warmup: int = 4
    smoothing: float = 0.1
    calm: float = 0.25
    hard: int = 0


def epoch_images(recipe: ClassifierRecipe, epoch: int) -> Epoch:
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


def _clutter(recipe: ClassifierRecipe, epoch: int) -> float:
    """Return how much of the photographs' contrast is shown: from none to all over the first `calm` of the epochs."""
    # On full backgrounds from the start, the transformers stay at chance for many epochs.
    return min(1.0, epoch / max(1.0, recipe.calm * recipe.epochs))
