"""Draw handwritten digits on crops of photographs, with exact masks.

Everything that reaches a pixel of the published data is integer arithmetic or the rounding of an element-wise float64
operation, so that the same seed gives the same bytes on every platform and whatever the BLAS.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from vitptq.tasks.mini.data.material import DIGIT_SIDE, Bytes, Digits, Ints, Pool, digits, photographs

Floats = npt.NDArray[np.floating[Any]]

REDUCTIONS = (1, 2, 3, 4, 6, 8)
_SMALLEST_SIDE = 48
_CALM = 40.0


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How large the digits are and how much they stand out; the defaults define the edition."""

    side: tuple[int, int] = (20, 28)
    stretch: float = 0.15
    contrast: tuple[int, int] = (88, 165)
    # Photographs are darkened so far that every digit can be brighter than what is behind it: small
    # transformers need many epochs to find digits of either sign.
    exposure: int = 120
    tint: int = 48


STANDARD = Difficulty()
# Training starts with this one.
HARD = Difficulty(side=(17, 28), contrast=(64, 150), exposure=165)


@dataclass(frozen=True, slots=True)
class Composites:
    """A batch of single-digit images with labels and masks."""

    images: Bytes  # (N, side, side, 3)
    labels: Ints  # (N,)
    masks: npt.NDArray[np.bool_]  # (N, side, side)


def compose(
    pool: Pool,
    rows: Ints,
    generator: np.random.Generator,
    *,
    side: int = 32,
    material: Digits | None = None,
    difficulty: Difficulty = STANDARD,
    clutter: float = 1.0,
) -> Composites:
    """Return one image per row: that digit of the pool at a random place on a random crop of the pool's photographs.

    `material` replaces the pool's digits (training passes warped ones). `clutter` below one pulls the backgrounds
    towards one dark grey (training starts there).
    """
    source = digits(pool) if material is None else material
    canvas = crop_photographs(photographs_at_scales(pool), len(rows), side, generator)
    canvas = (canvas.astype(np.int64) * difficulty.exposure // 255).astype(np.uint8)
    if clutter < 1.0:
        canvas = _calmed(canvas, clutter)
    boxes = _random_boxes(len(rows), side, difficulty, generator)
    alpha = digit_alpha(source.images[rows], boxes, (side, side))
    colours = contrasting_colours(canvas, alpha, difficulty, generator)
    return Composites(blend(canvas, alpha, colours), source.labels[rows], alpha >= 128)


def draw_digit(
    canvas: Bytes, digit: Bytes, box: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Return the canvas (H, W, 3) with the digit drawn into box (top, left, height, width), and its mask (H, W)."""
    height, width = canvas.shape[:2]
    alpha = digit_alpha(digit[None], np.array([box], dtype=np.int64), (height, width))
    drawn = blend(canvas[None], alpha, np.array([colour], dtype=np.int64))
    return drawn[0], alpha[0] >= 128


def digit_alpha(images: Bytes, boxes: Ints, size: tuple[int, int]) -> Bytes:
    """Return each digit's coverage (N, H, W) when its 28x28 image fills its box (top, left, height, width)."""
    rows = _resampling(boxes[:, 0], boxes[:, 2], size[0])  # (N, H, 28)
    columns = _resampling(boxes[:, 1], boxes[:, 3], size[1])  # (N, W, 28)
    # Weights are integers adding up to at most 256 per row, so partial sums stay below 2**24: float32 is exact.
    coverage = rows @ images.astype(np.float32) @ columns.transpose(0, 2, 1)
    return ((coverage.astype(np.int64) + 32768) >> 16).astype(np.uint8)


def blend(canvas: Bytes, alpha: Bytes, colours: Ints) -> Bytes:
    """Return the canvas (N, H, W, 3) painted with one colour (N, 3) per image through alpha (N, H, W)."""
    weight = alpha[..., None].astype(np.int32)
    mixed = canvas.astype(np.int32) * (255 - weight) + colours[:, None, None, :].astype(np.int32) * weight
    return ((mixed + 127) // 255).astype(np.uint8)


def contrasting_colours(canvas: Bytes, alpha: Bytes, difficulty: Difficulty, generator: np.random.Generator) -> Ints:
    """Return colours (N, 3) brighter than the background under the digit by a random step within the bounds."""
    count = len(canvas)
    brightness = (canvas.astype(np.int64) @ np.array([77, 150, 29])) >> 8  # (N, H, W)
    weight = alpha.astype(np.int64)
    local = (brightness * weight).sum(axis=(1, 2)) // np.maximum(weight.sum(axis=(1, 2)), 1)  # (N,)
    low, high = difficulty.contrast
    step = low + (generator.random(count) * (high - low + 1)).astype(np.int64)
    level = np.minimum(local + step, 255)
    tint = ((generator.random((count, 3)) * 2 - 1) * difficulty.tint).astype(np.int64)
    tint -= ((tint @ np.array([77, 150, 29])) >> 8)[:, None]
    colours: Ints = np.clip(level[:, None] + tint, 0, 255)
    return colours


def crop_photographs(
    scales: tuple[tuple[Bytes, ...], ...], count: int, side: int, generator: np.random.Generator
) -> Bytes:
    """Return `count` square crops (N, side, side, 3): photograph, scale, place and mirroring are drawn uniformly."""
    choice = generator.random((count, 5))
    crops = np.empty((count, side, side, 3), dtype=np.uint8)
    for index, (photograph, scale, top, left, mirror) in enumerate(choice):
        versions = [version for version in scales[int(photograph * len(scales))] if min(version.shape[:2]) >= side]
        image = versions[int(scale * len(versions))]
        y = int(top * (image.shape[0] - side + 1))
        x = int(left * (image.shape[1] - side + 1))
        crop = image[y : y + side, x : x + side]
        crops[index] = crop[:, ::-1] if mirror < 0.5 else crop
    return crops


@cache
def photographs_at_scales(pool: Pool) -> tuple[tuple[Bytes, ...], ...]:
    """Return each photograph of the pool at every reduction that leaves a useful size."""
    return tuple(
        tuple(_reduced(image, factor) for factor in REDUCTIONS if min(image.shape[:2]) // factor >= _SMALLEST_SIDE)
        for image in photographs(pool)
    )


def _reduced(image: Bytes, factor: int) -> Bytes:
    height, width = image.shape[0] // factor, image.shape[1] // factor
    blocks: Ints = image[: height * factor, : width * factor].astype(np.int64).reshape(height, factor, width, factor, 3)
    means: Ints = (blocks.sum(axis=(1, 3)) + factor * factor // 2) // (factor * factor)
    return means.astype(np.uint8)


def _calmed(canvas: Bytes, clutter: float) -> Bytes:
    mixed: Floats = _CALM + clutter * (canvas - _CALM)
    return np.rint(mixed).astype(np.uint8)


def _random_boxes(count: int, side: int, difficulty: Difficulty, generator: np.random.Generator) -> Ints:
    low, high = difficulty.side
    size = low + generator.random(count) * (high - low)
    stretch = 1 + (generator.random((count, 2)) * 2 - 1) * difficulty.stretch
    extent = np.minimum(np.rint(size[:, None] * stretch), side).astype(np.int64)  # (N, 2): height, width
    corner = (generator.random((count, 2)) * (side - extent + 1)).astype(np.int64)
    return np.concatenate([corner, extent], axis=1)


def _resampling(start: Ints, extent: Ints, size: int) -> npt.NDArray[np.float32]:
    """Return weights (N, size, 28) in 256ths that resample a digit's axis onto pixels start .. start + extent."""
    scale = DIGIT_SIDE / extent[:, None]  # source pixels per canvas pixel
    centre = (np.arange(size)[None, :] - start[:, None] + 0.5) * scale - 0.5  # (N, size)
    reach = np.maximum(scale, 1.0)[..., None]
    weights: Floats = np.maximum(0.0, 1.0 - np.abs(centre[..., None] - np.arange(DIGIT_SIDE)) / reach)  # (N, size, 28)
    inside = (np.arange(size)[None, :] >= start[:, None]) & (np.arange(size)[None, :] < (start + extent)[:, None])
    # Dividing by the reach keeps sums at or below one (less at the digit's border, where nothing is drawn anyway).
    weights = np.floor(weights / reach * 256.0) * inside[..., None]
    # A triangle sampled on integers can add up to slightly more than its area.
    excess = np.maximum(weights.sum(axis=-1, keepdims=True), 256.0)
    whole: Floats = np.floor(weights * (256.0 / excess))
    return whole.astype(np.float32)
