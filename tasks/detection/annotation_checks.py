"""What an entry of a COCO annotation file must be; every error names the file and the entry.

The limits keep out what COCO's tools would take without a word, crash on, or never finish: text for numbers, crowds of
`"0"`, polygons of two points, coordinates of millions, run lengths of another size than the image's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitptq.bench.errors import BadInput
from vitptq.tasks.detection.masks import check_rles, other_pixel_count

LARGEST_SIDE = 2**15
LARGEST_ID = 2**53
"""Beyond this, JSON readers of other languages round."""
POLYGON_NUMBERS = 6
OUTSIDE = 1.0
"""A box or polygon may leave the image by this many times its size."""


@dataclass(frozen=True, slots=True)
class Object:
    """One annotation: the image's position, the label, box (x, y, width, height), area, crowd flag, segmentation."""

    id: int
    image: int
    label: int
    box: tuple[float, ...]
    area: float
    crowd: bool
    segmentation: Any


class Entries:
    """The entries of one annotation file."""

    def __init__(self, file: Path) -> None:
        """Name `file` in every error."""
        self.file = file

    def categories(self, entries: Sequence[Any]) -> dict[int, int]:
        """Return the label of each category's id."""
        index = self._unique_ids("category", entries)
        for entry in entries:
            self._text("category", entry, "name")
        return index

    def images(self, entries: Sequence[Any]) -> dict[int, int]:
        """Return the position of each image's id."""
        if not entries:
            raise BadInput(f"{self.file} lists no images: download or generate it again")
        index = self._unique_ids("image", entries)
        names: dict[str, Any] = {}
        for entry in entries:
            name = self._text("image", entry, "file_name")
            if names.setdefault(name, entry["id"]) != entry["id"]:
                self._refuse("image", entry, f'"file_name" {name}, which is that of image {names[name]} too')
            for side in ("height", "width"):
                if not _is_integer(self._entry("image", entry, side), 1, LARGEST_SIDE):
                    self._refuse_value("image", entry, side, f"a whole number from 1 to {LARGEST_SIDE}")
        return index

    def objects(
        self,
        entries: Sequence[Any],
        labels: Mapping[int, int],
        index: Mapping[int, int],
        sizes: Sequence[tuple[int, int]],
    ) -> list[Object]:
        """Return the annotations; `sizes` are the images' (height, width)."""
        self._unique_ids("annotation", entries)
        return [self._object(entry, labels, index, sizes) for entry in entries]

    @contextmanager
    def of(self, annotation: int) -> Iterator[None]:
        """Name file and annotation in a BadInput that is raised inside."""
        try:
            yield
        except BadInput as error:
            raise BadInput(f"annotation {annotation} of {self.file}: {error}") from error

    def _object(
        self, entry: Any, labels: Mapping[int, int], index: Mapping[int, int], sizes: Sequence[tuple[int, int]]
    ) -> Object:
        image, category = (self._reference(entry, key) for key in ("image_id", "category_id"))
        if image not in index or category not in labels:
            what = f"image {image}" if image not in index else f"category {category}"
            raise BadInput(f"annotation {entry['id']} of {self.file} is for {what}, which the file does not list")
        height, width = sizes[index[image]]
        area = self._entry("annotation", entry, "area")
        if not _is_number(area) or not 0 <= area <= LARGEST_SIDE**2:
            self._refuse_value("annotation", entry, "area", "a number of pixels")
        crowd = entry.get("iscrowd", 0)
        if not _is_integer(crowd, 0, 1):
            self._refuse_value("annotation", entry, "iscrowd", "0 or 1")
        box, segmentation = self._box(entry, height, width), self._entry("annotation", entry, "segmentation")
        with self.of(entry["id"]):
            check_segmentation(segmentation, height, width)
        return Object(entry["id"], index[image], labels[category], box, float(area), bool(crowd), segmentation)

    def _box(self, entry: Any, height: int, width: int) -> tuple[float, ...]:
        box = self._entry("annotation", entry, "bbox")
        wanted = "four numbers x, y, width, height, the last two not negative, in or near the image"
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            self._refuse_value("annotation", entry, "bbox", wanted)
        x, y, w, h = box
        corners = ((x, width), (y, height), (x + w, width), (y + h, height))
        if w < 0 or h < 0 or not all(_is_near(value, side) for value, side in corners):
            self._refuse_value("annotation", entry, "bbox", wanted)
        return tuple(map(float, box))

    def _unique_ids(self, kind: str, entries: Sequence[Any]) -> dict[int, int]:
        index: dict[int, int] = {}
        for position, entry in enumerate(entries):
            number = self._entry(kind, entry, "id")
            if not _is_integer(number, -LARGEST_ID, LARGEST_ID):
                self._refuse_value(kind, entry, "id", "a whole number")
            if number in index:
                first = f"number {index[number]} of the list and number {position}"
                raise BadInput(f"{kind} {number} is in {self.file} twice ({first}): download or generate it again")
            index[number] = position
        return index

    def _reference(self, entry: Any, key: str) -> int:
        number = self._entry("annotation", entry, key)
        if not _is_integer(number, -LARGEST_ID, LARGEST_ID):
            self._refuse_value("annotation", entry, key, "a whole number")
        return int(number)

    def _text(self, kind: str, entry: Any, key: str) -> str:
        value = self._entry(kind, entry, key)
        if not isinstance(value, str) or not value:
            self._refuse_value(kind, entry, key, "a text")
        return str(value)

    def _entry(self, kind: str, entry: Any, key: str) -> Any:
        if not isinstance(entry, dict) or key not in entry:
            self._refuse(kind, entry, f'no "{key}"')
        return entry[key]

    def _refuse_value(self, kind: str, entry: Any, key: str, wanted: str) -> None:
        self._refuse(kind, entry, f'"{key}" {str(entry[key])[:60]!r}; expected {wanted}')

    def _refuse(self, kind: str, entry: Any, what: str) -> None:
        name = entry.get("id", "without id") if isinstance(entry, dict) else str(entry)[:20]
        raise BadInput(f"{kind} {name} of {self.file} has {what}: download or generate the file again")


def check_segmentation(segmentation: Any, height: int, width: int) -> None:
    """Raise BadInput where a segmentation is neither polygons nor run lengths of an image of this size."""
    if isinstance(segmentation, dict):
        _check_run_lengths(segmentation, height, width)
    elif not isinstance(segmentation, list) or not segmentation:
        raise BadInput(f"a segmentation is neither polygons nor run lengths ({str(segmentation)[:60]!r})")
    else:
        for polygon in segmentation:
            _check_polygon(polygon, height, width)


def _check_polygon(polygon: Any, height: int, width: int) -> None:
    if not isinstance(polygon, list) or not all(map(_is_number, polygon)):
        raise BadInput(f"a polygon is not a list of numbers ({str(polygon)[:60]!r})")
    if len(polygon) < POLYGON_NUMBERS or len(polygon) % 2:
        raise BadInput(
            f"a polygon has {len(polygon)} numbers; expected an even number of at least {POLYGON_NUMBERS}, x and y of "
            "each corner"
        )
    sides = (width, height) * (len(polygon) // 2)
    far = next((value for value, side in zip(polygon, sides, strict=True) if not _is_near(value, side)), None)
    if far is not None:
        raise BadInput(f"a polygon has the coordinate {far}, far outside of its image of {width} x {height} pixels")


def _check_run_lengths(segmentation: Mapping[Any, Any], height: int, width: int) -> None:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise BadInput(f"a mask is of size {size} in an image of {[height, width]} (height, width)")
    if isinstance(counts, str):
        encoded = np.frombuffer(counts.encode(errors="replace"), np.uint8)
        check_rles(encoded, np.array([len(encoded)], np.uint32), np.array([[height, width]]))
    elif not isinstance(counts, list) or not all(_is_integer(run, 0, height * width) for run in counts):
        raise BadInput(f"a mask's run lengths are neither a text nor a list of pixel counts ({str(counts)[:60]!r})")
    elif sum(counts) != height * width:
        raise BadInput(other_pixel_count(sum(counts), height, width))


def _is_number(value: Any) -> bool:
    # bounded: a whole number may be too large to be added to a float; NaN is within no bounds
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_ID


def _is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_near(value: float, side: int) -> bool:
    return -OUTSIDE * side <= value <= (1 + OUTSIDE) * side
