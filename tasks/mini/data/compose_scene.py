"""Compose scenes: several digits of different sizes, partly in front of each other, on a crop of a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitptq.tasks.mini.data.compose_digit import (
    Difficulty,
    blend,
    contrasting_colours,
    crop_photographs,
    digit_alpha,
    photographs_at_scales,
)
from vitptq.tasks.mini.data.material import DIGIT_SIDE, Bytes, Digits, Ints, Pool

Masks = npt.NDArray[np.bool_]

SIDE = 96
DIGITS = (2, 5)
# A pixel belongs to the digit that covers at least a quarter of it.
COVERED = 64
# Every digit shows at least half of its own pixels.
VISIBLE = (1, 2)
_PLACES_TRIED = 20

# `side` is that of the 28x28 image around the digit, whose ink fills 20 rows or columns of it: 18 to 52 pixels.
STANDARD = Difficulty(side=(26, 72), tint=64)
# Half of the scenes that train are drawn with this one.
HARD = Difficulty(side=(24, 72), contrast=(64, 150), exposure=165, tint=64)


@dataclass(frozen=True, slots=True)
class Scene:
    """One image with its digits, from the rearmost to the foremost."""

    image: Bytes  # (96, 96, 3)
    labels: Ints  # (n,)
    masks: Masks  # (n, 96, 96): the visible pixels of each digit; no pixel has two

    @property
    def boxes(self) -> Ints:
        """Return the boxes (n, 4) around the visible pixels: left, top, right, bottom, the last two exclusive."""
        return np.stack([_box(mask) for mask in self.masks])

    @property
    def label_map(self) -> Bytes:
        """Return the classes (96, 96) as ADE20K stores them: 1 is the photograph, 2 to 11 the digits 0 to 9."""
        classes = np.ones(self.masks.shape[1:], dtype=np.uint8)
        for mask, label in zip(self.masks, self.labels, strict=True):
            classes[mask] = label + 2
        return classes


def compose_scene(
    pool: Pool,
    material: Digits,
    generator: np.random.Generator,
    *,
    difficulty: Difficulty = STANDARD,
) -> Scene:
    """Return a scene of all digits in `material` (28x28 images, any number), drawn in their order.

    A digit for which no free place is found is left out.
    """
    canvas = crop_photographs(photographs_at_scales(pool), 1, SIDE, generator).astype(np.int64)
    image: Bytes = (canvas * difficulty.exposure // 255).astype(np.uint8)  # (1, 96, 96, 3)
    masks: list[Masks] = []
    areas: list[int] = []
    labels: list[int] = []
    for digit, label in zip(material.images, material.labels, strict=True):
        alpha = _place(digit, masks, areas, difficulty, generator)
        if alpha is None:
            continue
        image = blend(image, alpha, contrasting_colours(image, alpha, difficulty, generator))
        mask: Masks = alpha[0] >= COVERED
        masks = [behind & ~mask for behind in masks] + [mask]
        areas.append(int(mask.sum()))
        labels.append(int(label))
    return Scene(image[0], np.array(labels, dtype=np.int64), np.stack(masks))


def _place(
    digit: Bytes, masks: list[Masks], areas: list[int], difficulty: Difficulty, generator: np.random.Generator
) -> Bytes | None:
    """Return the coverage (1, 96, 96) of a digit at a place where what is behind it stays visible, if one is found."""
    extent = _random_extent(difficulty, generator)
    # Only the ink has to be inside the image, the empty margin of the 28x28 image need not.
    margin = 3 * extent // DIGIT_SIDE
    for _ in range(_PLACES_TRIED):
        corner = (generator.random(2) * (SIDE - extent + 2 * margin + 1)).astype(np.int64) - margin
        alpha = digit_alpha(digit[None], np.concatenate([corner, extent])[None], (SIDE, SIDE))
        mask = alpha[0] >= COVERED
        if all(
            int((behind & ~mask).sum()) * VISIBLE[1] >= area * VISIBLE[0]
            for behind, area in zip(masks, areas, strict=True)
        ):
            return alpha
    return None


def _random_extent(difficulty: Difficulty, generator: np.random.Generator) -> Ints:
    """Return height and width of a digit's image; small digits are more frequent than large ones."""
    low, high = difficulty.side
    chance = float(generator.random())
    size = low + chance * chance * (high - low)
    stretch = 1 + (generator.random(2) * 2 - 1) * difficulty.stretch
    extent: npt.NDArray[np.floating[Any]] = np.rint(size * stretch)
    return np.clip(extent, low, high).astype(np.int64)


def _box(mask: Masks) -> Ints:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.int64)
