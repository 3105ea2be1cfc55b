"""Decode image files in order, by this process or by others: the one loop behind every task's images."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import features
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitptq.bench.errors import VitptqError
from vitptq.tasks.foreign_files import stat_of

PART = 16
"""Images that are handed over, hashed and stored together."""
LITTLE_BYTES = 20_000_000
"""Starting processes takes longer than decoding this much, about 128 images of 224 pixels."""
DECODERS = ("pillow", "timm", "torchvision", "opencv-python-headless", "opencv-python", "onedl-mmcv")
"""Packages whose version may change a pixel."""

Pixels = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image as its transform leaves it, still in whole numbers: it is normalised where the model is."""

    arrays: dict[str, Pixels]
    facts: dict[str, Any] = field(default_factory=dict)
    """What else the model's library wants to know: JSON values."""


Reader = Callable[[int], Decoded]
"""Decodes the image at a position; one that cannot be read raises a VitptqError with its name."""


@dataclass(frozen=True)
class ImageSource:
    """Listed images and one way to decode them."""

    name: str
    """Of the data set and its use, such as imagenet-full-evaluation."""
    root: Path
    """The data set's folder."""
    files: Sequence[tuple[Path, ...]]
    """What is read for each image; it is decoded again when one of its files changes."""
    reading: Any
    """How the files are read, in JSON values."""
    bytes_each: int
    """Size of a decoded image, rounded up where sizes vary."""
    reader: Callable[[], Reader]
    """Makes what decodes; called only where something is decoded."""
    decoders: int = 0
    """Processes that decode; 0: this one does."""
    shared: tuple[Path, ...] = ()
    """What is read for all images, such as a file of annotations."""

    @property
    def count(self) -> int:
        """Return the number of images."""
        return len(self.files)

    @cached_property
    def state(self) -> str:
        """Return a hash that changes with the name, size or time of any file, and with how files are read."""
        return hashlib.sha256(json.dumps([self.state_of(range(self.count)), self.way]).encode()).hexdigest()

    def state_of(self, positions: Iterable[int]) -> str:
        """Return a hash that changes with the name, size or time of a file that is read for these images."""
        files = [*self.shared, *(file for position in positions for file in self.files[position])]
        stats = [(file.parent.name, file.name, stat_of(file)) for file in files]
        listed = [(folder, name, stat.st_size, stat.st_mtime_ns) for folder, name, stat in stats]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    @property
    def way(self) -> list[Any]:
        """Return all that decides how a file is read: the transform, and who decodes."""
        return [self.reading, _decoders()]


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive decoded images in one piece: their bytes, and what is where in them."""

    content: Tensor
    """uint8, (bytes,)."""
    layout: list[dict[str, Any]]
    """Of each image: the shapes of its arrays, in their order, and its facts."""
    sha256: str


def packed(images: Sequence[Decoded]) -> Part:
    """Return images in one piece."""
    layout = [
        {"arrays": {name: list(array.shape) for name, array in image.arrays.items()}, "facts": image.facts}
        for image in images
    ]
    flat = [np.ascontiguousarray(array).reshape(-1) for image in images for array in image.arrays.values()]
    content = np.concatenate(flat) if flat else np.zeros(0, dtype=np.uint8)
    return Part(torch.from_numpy(content), layout, part_hash(content, layout))


def part_hash(content: Pixels, layout: Sequence[dict[str, Any]]) -> str:
    """Return the sha256 over a part's bytes and layout."""
    found = hashlib.sha256(content.data)
    found.update(json.dumps(layout).encode())
    return found.hexdigest()


def unpacked(content: Pixels, layout: Sequence[dict[str, Any]]) -> list[Decoded]:
    """Return the images of a part, as views of `content`."""
    images, start = [], 0
    for image in layout:
        arrays = {}
        for name, shape in image["arrays"].items():
            stop = start + int(np.prod(shape))
            arrays[name] = content[start:stop].reshape(shape)
            start = stop
        images.append(Decoded(arrays, image["facts"]))
    return images


def decoded(source: ImageSource, start: int = 0, stop: int | None = None) -> Iterator[Decoded]:
    """Yield the images from position `start` on, up to `stop`, in order."""
    stop = source.count if stop is None else stop
    ranges = [range(first, min(first + PART, stop)) for first in range(start, stop, PART)]
    for part in decoded_parts(source, ranges):
        yield from unpacked(part.content.numpy(), part.layout)


def decoded_parts(source: ImageSource, ranges: Sequence[range]) -> Iterator[Part]:
    """Yield the images at each range of positions, in order; an unreadable one raises the error that names it."""
    images = sum(map(len, ranges))
    decoders = 0 if images * source.bytes_each < LITTLE_BYTES else min(source.decoders, len(ranges))
    if decoders:
        _stop_opencv_threads()
    loader = DataLoader(
        _Parts(source.reader(), ranges),
        batch_size=None,
        num_workers=decoders,
        collate_fn=_unchanged,
        # Without its own generator, a loader draws from the global one and so changes what a method draws later.
        generator=torch.Generator().manual_seed(0),
    )
    for part in loader:
        if isinstance(part, VitptqError):
            raise part
        yield part


def made_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items; a thread makes the next one while the last is worked on."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(lambda: list(islice(items, 1)))
        while item := following.result():
            following = pool.submit(lambda: list(islice(items, 1)))
            yield item[0]


class _Parts(Dataset["Part | VitptqError"]):
    """Parts by number; an error comes as a value: raised in a worker, it would arrive wrapped in a traceback."""

    def __init__(self, read: Reader, ranges: Sequence[range]) -> None:
        self.read = read
        self.ranges = ranges

    def __len__(self) -> int:
        return len(self.ranges)

    def __getitem__(self, number: int) -> Part | VitptqError:
        try:
            return packed([self.read(position) for position in self.ranges[number]])
        except VitptqError as error:
            return error


def _unchanged(part: Any) -> Any:
    return part


def _stop_opencv_threads() -> None:
    """End OpenCV's pool of threads before workers are forked: a fork has the pool but not its threads, and waits."""
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)


@cache
def _decoders() -> dict[str, str]:
    """Return the versions of what decodes; looking one up takes milliseconds."""
    return {name: _version(name) for name in DECODERS} | {"jpeg": str(features.version("jpg"))}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
