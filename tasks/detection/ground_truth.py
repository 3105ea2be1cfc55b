"""Read COCO's annotation files: images and ground truth, every entry checked once, before any long work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.detection.annotation_checks import Entries
from vitptq.tasks.detection.masks import packed, rle
from vitptq.tasks.file_task import state_of
from vitptq.tasks.foreign_files import refuse_disguised
from vitptq.tasks.image_files import UPRIGHT, image_names, stored_size

SHOWN = 3
AGAIN = "download or generate it again"


@dataclass(frozen=True)
class Annotations:
    """One split: its images in the order of the file, and the ground truth as evidence keeps it."""

    file: Path
    image_ids: NDArray[np.int64]
    """Shape (images,)."""
    sizes: NDArray[np.int32]
    """Height and width, shape (images, 2)."""
    names: tuple[str, ...]
    truth: dict[str, NDArray[Any]]
    """See `vitptq.tasks.detection.evidence`."""


def read(file: Path, classes: Sequence[str]) -> Annotations:
    """Return the annotations of `file`, whose categories must be `classes`, in this order.

    It is read once per process while it does not change. BadInput names the file, the entry and what is wrong with it.
    """
    if not file.exists() and not file.is_symlink():
        raise Missing(f"{file} is not there: unpack COCO's annotations_trainval2017.zip beside the images")
    refuse_disguised(file, AGAIN)
    stat = file.stat()
    return _read(file, tuple(classes), stat.st_size, stat.st_mtime_ns)


@cache
def _read(file: Path, classes: tuple[str, ...], _size: int, _mtime: int) -> Annotations:
    images, annotations, categories = _content(file)
    entries = Entries(file)
    labels = _labels(entries, categories, classes)
    index = entries.images(images)
    sizes = [(image["height"], image["width"]) for image in images]
    rows = entries.objects(annotations, labels, index, sizes)
    return Annotations(
        file,
        np.array(list(index), np.int64),
        np.array(sizes, np.int32).reshape(-1, 2),
        tuple(image["file_name"] for image in images),
        _truth(entries, sorted(rows, key=lambda row: row.image), sizes),  # stable: the file's order per image
    )


def compare_with_folder(found: Annotations, folder: Path, workers: int) -> None:
    """Raise where the images of the annotations and of the folder differ: the split is incomplete, or another one.

    The header of every image is read, by `workers` threads: its size is that of its entry, and no EXIF orientation
    turns it. The answer is kept while no file changes.
    """
    if not folder.is_dir():
        raise Missing(f"{folder} is not there: unpack the images that {found.file.name} names")
    present, named = set(image_names(folder)), set(found.names)
    absent, unknown = sorted(named - present), sorted(present - named)
    if absent:
        raise Missing(
            f"{len(absent)} of the {len(named)} images that {found.file} names are not in {folder} "
            f"({_some(absent)}): unpack the split again"
        )
    if unknown:
        raise BadInput(
            f"{folder} has {len(unknown)} images that {found.file} does not name ({_some(unknown)}): "
            "keep only the images of this split there"
        )
    _check_sizes(found, folder, workers)


def _check_sizes(found: Annotations, folder: Path, workers: int) -> None:
    files = [folder / name for name in found.names]
    key = state_of([found.file, *files], None)
    if key not in _COMPARED:
        with ThreadPoolExecutor(max(1, workers)) as pool:
            list(pool.map(partial(_check_size, found.file), files, found.sizes.tolist()))
        _COMPARED.add(key)


_COMPARED: set[str] = set()


def _check_size(annotations: Path, image: Path, size: list[int]) -> None:
    stored = stored_size(image)
    if stored.orientation != UPRIGHT:
        raise BadInput(
            f"{image} is turned by its EXIF orientation {stored.orientation}, while {annotations} describes it with "
            f"{size[1]} x {size[0]} pixels as they are stored: unpack the split again"
        )
    if [stored.height, stored.width] != size:
        raise BadInput(
            f"{image} has {stored.width} x {stored.height} pixels, {annotations} says {size[1]} x {size[0]}: its boxes "
            "and masks belong to an image of that size, unpack the split again"
        )


def _content(file: Path) -> tuple[list[Any], list[Any], list[Any]]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise BadInput(f"{file} is not readable JSON ({error}): {AGAIN}") from error
    parts = [content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations", "categories")]
    if not all(isinstance(part, list) for part in parts):
        raise BadInput(f"{file} has no lists images, annotations and categories: it is not a COCO annotation file")
    return parts[0], parts[1], parts[2]  # type: ignore[return-value]  # just checked


def _labels(entries: Entries, categories: list[Any], classes: tuple[str, ...]) -> dict[int, int]:
    index = entries.categories(categories)
    names = tuple(category["name"] for category in categories)
    if names != classes:
        raise BadInput(
            f"{entries.file} has {len(names)} categories ({_some(names)}), the checkpoint {len(classes)} classes "
            f"({_some(classes)}){_first_difference(names, classes)}: use the annotations that it was trained for"
        )
    return index


def _first_difference(names: Sequence[str], classes: Sequence[str]) -> str:
    pairs = enumerate(zip(names, classes, strict=False))
    return next((f'; number {i} is "{a}" there and "{b}" here' for i, (a, b) in pairs if a != b), "")


def _truth(entries: Entries, rows: list[Any], sizes: list[tuple[int, int]]) -> dict[str, NDArray[Any]]:
    encoded = []
    for row in rows:
        with entries.of(row.id):
            encoded.append(rle(row.segmentation, *sizes[row.image]))
    masks, lengths = packed(encoded)
    return {
        "truth_images": np.array([row.image for row in rows], np.int32),
        "truth_labels": np.array([row.label for row in rows], np.int16),
        "truth_boxes": np.array([row.box for row in rows], np.float64).reshape(-1, 4),
        "truth_areas": np.array([row.area for row in rows], np.float64),
        "truth_crowd": np.array([row.crowd for row in rows], np.bool_),
        "truth_masks": masks,
        "truth_mask_lengths": lengths,
    }


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
