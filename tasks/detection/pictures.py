"""Evaluation images with what is there and what a model found, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitptq.bench.contracts.task import Drawing, Evidence, Scene
from vitptq.tasks.detection.masks import decoded, unpacked

SHOWN = 6
CONFIDENT = 0.5
"""Detections below this score are left out: APs count them, but nobody can see anything for them."""


def scenes(found: Evidence, folder: Path, classes: Sequence[str], count: int = SHOWN) -> list[Scene]:
    """Return the first `count` images, which are named by their ids in `folder`; nothing where they are not there."""
    files = [folder / f"{image:012d}.jpg" for image in found["image_ids"][:count].tolist()]
    if not all(file.is_file() for file in files):
        return []
    return [
        Scene(
            title=f"Scene {found['image_ids'][image]}",
            image=_pixels(file),
            truth=_drawing(found, image, "truth_", classes),
            found=_drawing(found, image, "", classes),
        )
        for image, file in enumerate(files)
    ]


def _pixels(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _drawing(found: Evidence, image: int, prefix: str, classes: Sequence[str]) -> Drawing:
    height, width = found["image_sizes"][image].tolist()
    painted = np.zeros((height, width), np.uint8)
    boxes, labels = [], []
    for row, mask in _objects(found, image, prefix):
        name = classes[label := int(found[f"{prefix}labels"][row])]
        x, y, right, bottom = (float(value) for value in found[f"{prefix}boxes"][row])
        painted[mask] = label + 1
        boxes.append((x, y, right, bottom) if prefix else (x, y, right - x, bottom - y))
        labels.append(name if prefix else f"{name} {found['scores'][row]:.2f}")
    return Drawing(painted, tuple(boxes), tuple(labels))


def _objects(found: Evidence, image: int, prefix: str) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield row and mask of the objects of one image, the surest last, so that it is painted over the others."""
    rows = np.flatnonzero(found[f"{prefix}images"] == image)
    if not prefix:
        rows = rows[found["scores"][rows] >= CONFIDENT]
        rows = rows[np.argsort(found["scores"][rows], kind="stable")]
    rles = unpacked(found[f"{prefix}masks"], found[f"{prefix}mask_lengths"]) if len(rows) else []
    height, width = found["image_sizes"][image].tolist()
    for row in rows.tolist():
        yield row, decoded(rles[row], height, width)
