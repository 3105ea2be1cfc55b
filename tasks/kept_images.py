"""The evaluation images that this process keeps for the next cell: mapped from disk, or those that memory has room for.

One set at a time: the cells of a task come one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vitptq.bench.contracts.task import Progress
from vitptq.tasks.decoding import Decoded, ImageSource, decoded
from vitptq.tasks.image_cache import ImageCache

_KEPT: dict[str, Iterable[Decoded]] = {}


def kept(source: ImageSource, folder: Path | None, budget: int, progress: Progress) -> Iterable[Decoded]:
    """Return the images of a source, to be gone through any number of times; the same ones while no file changes.

    They are kept in `folder`; without one, the first of them are kept in memory, `budget` bytes at most, and the others
    are decoded each time.
    """
    key = f"{folder} {source.root} {source.name} {source.state}"
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = (
            FirstInMemory(source, budget, progress) if folder is None else ImageCache(folder, source).fill(progress)
        )
    return _KEPT[key]


def drop() -> None:
    """Keep no image any more; what is on disk stays there."""
    _KEPT.clear()


@contextmanager
def set_aside() -> Iterator[None]:
    """Keep the images where no module leads to them inside."""
    inside = dict(_KEPT)
    _KEPT.clear()
    try:
        yield
    finally:
        _KEPT.clear()
        _KEPT.update(inside)


class FirstInMemory(Iterable[Decoded]):
    """The images of a source; the first of them, `budget` bytes at most, are decoded now and kept."""

    def __init__(self, source: ImageSource, budget: int, progress: Progress) -> None:
        self._source = source
        self._first: list[Decoded] = []
        for image in decoded(source):
            budget -= sum(array.nbytes for array in image.arrays.values())
            if budget < 0:
                break
            # A copy, because what comes from a worker process holds a file descriptor.
            arrays = {name: array.copy() for name, array in image.arrays.items()}
            self._first.append(Decoded(arrays, image.facts))
            progress(len(self._first), source.count)

    def __iter__(self) -> Iterator[Decoded]:
        yield from self._first
        if len(self._first) < self._source.count:
            yield from decoded(self._source, len(self._first))
