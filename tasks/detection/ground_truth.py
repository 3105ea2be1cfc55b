"""Read COCO's annotation files: images, ground truth, and what does not fit together, before any long work."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.detection.masks import packed, rle
from vitptq.tasks.image_files import image_names

SHOWN = 3


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

    It is read once per process while it does not change.
    """
    if not file.is_file():
        raise Missing(f"{file} is not there: unpack COCO's annotations_trainval2017.zip beside the images")
    stat = file.stat()
    return _read(file, tuple(classes), stat.st_size, stat.st_mtime_ns)


@cache
def _read(file: Path, classes: tuple[str, ...], _size: int, _mtime: int) -> Annotations:
    images, annotations, categories = _content(file)
    labels = _labels(file, categories, classes)
    index = {_entry(file, "image", image, "id"): position for position, image in enumerate(images)}
    if not images or len(index) != len(images):
        raise BadInput(f"{file} has {len(images)} images with {len(index)} different ids: download it again")
    sizes = [(_entry(file, "image", i, "height"), _entry(file, "image", i, "width")) for i in images]
    names = tuple(str(_entry(file, "image", image, "file_name")) for image in images)
    try:
        truth = _truth(file, annotations, labels, index, sizes)
        ids, sides = np.array(list(index), np.int64), np.array(sizes, np.int32)
    except (TypeError, ValueError, OverflowError) as error:  # text where numbers belong, ragged boxes
        raise BadInput(f"{file} has an entry of another type than COCO's ({error}): download it again") from error
    return Annotations(file, ids, sides, names, truth)


def compare_with_folder(found: Annotations, folder: Path) -> None:
    """Raise where the images of the annotations and of the folder differ: the split is incomplete, or another one."""
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


def _content(file: Path) -> tuple[list[Any], list[Any], list[Any]]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, OSError) as error:
        raise BadInput(f"{file} is not readable JSON ({error}): download or generate it again") from error
    parts = [content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations", "categories")]
    if not all(isinstance(part, list) for part in parts):
        raise BadInput(f"{file} has no lists images, annotations and categories: it is not a COCO annotation file")
    return parts[0], parts[1], parts[2]  # type: ignore[return-value]  # just checked


def _labels(file: Path, categories: list[Any], classes: tuple[str, ...]) -> dict[Any, int]:
    names = tuple(_entry(file, "category", category, "name") for category in categories)
    if names != classes:
        raise BadInput(
            f"{file} has {len(names)} categories ({_some(names)}), the checkpoint {len(classes)} classes "
            f"({_some(classes)}){_first_difference(names, classes)}: use the annotations that it was trained for"
        )
    return {_entry(file, "category", category, "id"): label for label, category in enumerate(categories)}


def _first_difference(names: Sequence[str], classes: Sequence[str]) -> str:
    pairs = enumerate(zip(names, classes, strict=False))
    return next((f'; number {i} is "{a}" there and "{b}" here' for i, (a, b) in pairs if a != b), "")


def _truth(
    file: Path,
    annotations: list[Any],
    labels: dict[Any, int],
    index: dict[Any, int],
    sizes: list[tuple[int, int]],
) -> dict[str, NDArray[Any]]:
    rows = sorted(_rows(file, annotations, labels, index), key=lambda row: row[0])  # stable: the file's order per image
    rles = [rle(segmentation, *sizes[image]) for image, *_, segmentation in rows]
    masks, lengths = packed(rles)
    return {
        "truth_images": np.array([row[0] for row in rows], np.int32),
        "truth_labels": np.array([row[1] for row in rows], np.int16),
        "truth_boxes": np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        "truth_areas": np.array([row[3] for row in rows], np.float64),
        "truth_crowd": np.array([row[4] for row in rows], np.bool_),
        "truth_masks": masks,
        "truth_mask_lengths": lengths,
    }


def _rows(
    file: Path, annotations: list[Any], labels: dict[Any, int], index: dict[Any, int]
) -> Iterator[tuple[int, int, Any, float, bool, Any]]:
    for annotation in annotations:
        image, category, box, area, segmentation = (
            _entry(file, "annotation", annotation, key)
            for key in ("image_id", "category_id", "bbox", "area", "segmentation")
        )
        if image not in index or category not in labels:
            what = f"image {image}" if image not in index else f"category {category}"
            raise BadInput(f"annotation {annotation.get('id')} of {file} is for {what}, which the file does not list")
        yield index[image], labels[category], box, area, bool(annotation.get("iscrowd", 0)), segmentation


def _entry(file: Path, kind: str, entry: Any, key: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        name = entry.get("id", "without id") if isinstance(entry, dict) else str(entry)[:20]
        raise BadInput(f'{kind} {name} of {file} has no "{key}": download or generate the file again')
    return entry[key]


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
