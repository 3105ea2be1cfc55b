"""Images and label maps in ADE20K's folder layout: found, paired and checked before any model runs.

    images/training/*.jpg        annotations/training/*.png
    images/validation/*.jpg      annotations/validation/*.png

A label map has one channel of 8 bits: 1 to the number of classes, or 0 for pixels without a label, and mmseg reads 255
as no label too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.foreign_files import is_system_name, stat_of
from vitptq.tasks.image_files import QUARTER_TURNS, UNREADABLE, UPRIGHT, stored_size, unreadable

IMAGE, LABELS = ".jpg", ".png"
NO_LABEL = (0, 255)
ONE_CHANNEL = ("L", "P")


@dataclass(frozen=True, slots=True)
class Pair:
    """One image and its label map."""

    image: Path
    labels: Path


def image_files(folder: Path, missing: str) -> list[Path]:
    """Return the images of a split, sorted by name; `missing` says how to get the data."""
    return [folder / name for name in _names(folder, IMAGE, missing)]


def pairs(root: Path, split: str, missing: str) -> list[Pair]:
    """Return images with label maps, sorted by name; one without the other is refused."""
    images, annotations = root / "images" / split, root / "annotations" / split
    pictures = {name.removesuffix(IMAGE): images / name for name in _names(images, IMAGE, missing)}
    maps = {name.removesuffix(LABELS): annotations / name for name in _names(annotations, LABELS, missing)}
    _refuse_unpaired(pictures, maps, annotations, "image", "label map", LABELS)
    _refuse_unpaired(maps, pictures, images, "label map", "image", IMAGE)
    return [Pair(picture, maps[stem]) for stem, picture in pictures.items()]


def _names(folder: Path, suffix: str, missing: str) -> list[str]:
    if not folder.is_dir():
        raise Missing(f"{folder} is not there. {missing}")
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(suffix) and not is_system_name(entry.name)]
    return sorted(names)


def _refuse_unpaired(
    these: dict[str, Path], others: dict[str, Path], folder: Path, this: str, other: str, suffix: str
) -> None:
    alone = [stem for stem in these if stem not in others]
    if alone:
        raise BadInput(
            f"{these[alone[0]]} has no {other}: {folder / (alone[0] + suffix)} is not there "
            f"({len(alone)} of {len(these)} {this}s are alone); unpack the data set again"
        )


def check(found: Sequence[Pair], classes: int, workers: int) -> int:
    """Read every label map and return the number of all pixels; the first wrong file is refused.

    The answer is kept while the files do not change: the cells of one task come one after the other.
    """
    stats = [(file, stat_of(file)) for pair in found for file in (pair.image, pair.labels)]
    listed = [f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for file, stat in stats]
    key = hashlib.sha256(f"{classes}\n{''.join(listed)}".encode()).hexdigest()
    if key not in _CHECKED:
        with ThreadPoolExecutor(max(1, workers)) as pool:  # Pillow decodes outside the interpreter's lock
            _CHECKED[key] = sum(pool.map(partial(_check_pair, classes=classes), found))
    return _CHECKED[key]


_CHECKED: dict[str, int] = {}


def _check_pair(pair: Pair, classes: int) -> int:
    """Return the number of pixels of an image whose label map fits it."""
    height, width = _image_size(pair.image)
    labels = read_labels(pair.labels)
    if labels.shape != (height, width):
        raise BadInput(
            f"{pair.labels} has {labels.shape[1]} x {labels.shape[0]} pixels, {pair.image.name} {width} x {height}: "
            "a label map has the size of its image, unpack the data set again"
        )
    wrong = labels[(labels > classes) & (labels != max(NO_LABEL))]
    if wrong.size:
        raise BadInput(
            f"{pair.labels} has label value {wrong[0]} in {wrong.size} of {labels.size} pixels; allowed are 0 to "
            f"{classes} and 255: the models have {classes} classes, and 0 and 255 are pixels without a label"
        )
    return labels.size


def read_labels(path: Path) -> np.ndarray:
    """Return the values of a label map, uint8 (H, W)."""
    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.asarray(image)
    except UNREADABLE as error:
        raise unreadable(path, error, "label map") from error
    if mode not in ONE_CHANNEL:
        raise BadInput(
            f"{path} has pixels of mode {mode}; a label map has one channel of 8 bits ({' or '.join(ONE_CHANNEL)})"
        )
    return values


def _image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) as OpenCV decodes the image: turned by its EXIF orientation, which must show in the size.

    Label maps have no orientation: where the size does not tell whether they are turned too, the image is refused.
    """
    size = stored_size(path)
    if size.orientation != UPRIGHT and (size.orientation < QUARTER_TURNS or size.height == size.width):
        raise BadInput(
            f"{path} is turned or mirrored by its EXIF orientation {size.orientation}, its label map is not: unpack "
            "the data set again"
        )
    return size.turned


def refuse_leak(files: Sequence[Path], validation: Sequence[Path]) -> None:
    """Raise BadInput where a calibration image is an evaluation image: the same file, or one with the same content."""
    sizes = {stat_of(file).st_size for file in files}
    known = {_content(file): file for file in validation if stat_of(file).st_size in sizes}
    for file in files:
        if _content(file) in known:
            raise BadInput(
                f"{file} is the evaluation image {known[_content(file)].name}: calibration would read evaluation "
                f"images; {file.parent} must hold the training split only"
            )


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
