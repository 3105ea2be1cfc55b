"""Decoded images on disk: made once for all cells and workers, checked by hash, and gone on with after an interruption.

A folder belongs to one data set read in one way. The images are in `images.pixels`, sixteen at a time, and
`images.jsonl` says of each part where it is, its sha256, what is in it and the state of the files that it came from. A
part that is not there, whose hash is another or whose files changed is decoded again and appended; the last line about
a part counts. So nothing that a process has mapped ever changes, and whatever ends a run costs the part that it was at.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from filelock import FileLock, Timeout

from vitptq.bench.contracts.task import Progress
from vitptq.bench.errors import BadInput, Missing
from vitptq.bench.files import shown
from vitptq.tasks.decoding import PART, Decoded, ImageSource, Pixels, decoded_parts, part_hash, unpacked

POLL_S = 0.5
STEP = "; free room there, name another folder with VITPTQ_CACHE, or run with --no-cache"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a part is."""

    offset: int
    bytes: int
    sha256: str
    layout: list[dict[str, Any]]
    state: str
    """Of the files that it was decoded from."""


class ImageCache(Sequence[Decoded]):
    """The first `length` images of a source, mapped from disk; `fill` makes them be there."""

    def __init__(self, folder: Path, source: ImageSource, length: int | None = None) -> None:
        """Read nothing yet; `folder` holds the caches of all data sets."""
        self.source = source
        self.length = source.count if length is None else length
        self.folder = folder / folder_name(source)
        self.pixels = self.folder / "images.pixels"
        self.journal = self.folder / "images.jsonl"
        self._places: dict[int, _Place] = {}
        self._content: Pixels | None = None

    def fill(self, progress: Progress) -> ImageCache:
        """Check what is there, decode what is not, and return self; waits where another process is at it."""
        if not self._complete(progress):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with self._locked(progress):
                    if not self._complete(progress):
                        self._decode(progress)
            except OSError as error:
                raise BadInput(
                    f"decoded images cannot be kept in {shown(self.folder)}: {error.strerror or error}{STEP}"
                ) from error
        self._content = np.memmap(self.pixels, dtype=np.uint8, mode="r") if self.length else None
        return self

    @property
    def digest(self) -> str:
        """Return the sha256 over those of all parts."""
        return hashlib.sha256("".join(self._places[n].sha256 for n in self._numbers).encode()).hexdigest()

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, position: int) -> Decoded: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Decoded]: ...
    def __getitem__(self, position: int | slice) -> Decoded | Sequence[Decoded]:
        if isinstance(position, slice):
            return [self[p] for p in range(*position.indices(self.length))]
        if not 0 <= position < self.length:
            raise IndexError(position)
        return self._part(position // PART)[position % PART]

    def __iter__(self) -> Iterator[Decoded]:
        for number in self._numbers:
            yield from self._part(number)[: self.length - number * PART]

    @property
    def _numbers(self) -> range:
        return range(-(-self.length // PART))

    def _range(self, number: int) -> range:
        """Return the positions of a part; the last part of a shorter set is replaced when a longer one is wanted."""
        return range(number * PART, min((number + 1) * PART, self.length))

    def _state(self, number: int, images: int) -> str:
        """Return the state of the files of a part with so many images; empty where one is not there any more."""
        try:
            return self.source.state_of(range(number * PART, min(number * PART + images, self.source.count)))
        except Missing:
            return ""

    def _part(self, number: int) -> list[Decoded]:
        assert self._content is not None, "fill() comes first"
        place = self._places[number]
        return unpacked(self._content[place.offset : place.offset + place.bytes], place.layout)

    def _complete(self, progress: Progress) -> bool:
        """Tell whether every part is there with its hash; read once per process while the file does not change."""
        listed = _journal(self.journal)
        wanted = {number: listed[number] for number in self._numbers if number in listed}
        self._places = self._checked(
            {
                number: place
                for number, place in wanted.items()
                if len(place.layout) >= len(self._range(number))
                and place.state == self._state(number, len(place.layout))
            },
            progress,
        )
        return len(self._places) == len(self._numbers)

    def _checked(self, wanted: dict[int, _Place], progress: Progress) -> dict[int, _Place]:
        try:
            stat = self.pixels.stat()
        except OSError:
            return {}
        key = (str(self.pixels), stat.st_ino, stat.st_size, stat.st_mtime_ns)
        unknown = [number for number in wanted if (*key, wanted[number].sha256) not in _CHECKED]
        if unknown:
            content = np.memmap(self.pixels, dtype=np.uint8, mode="r") if stat.st_size else np.zeros(0, np.uint8)
            with ThreadPoolExecutor(max(1, self.source.decoders)) as pool:  # hashing leaves the interpreter's lock
                hashes = pool.map(lambda number: _hash(content, wanted[number]), unknown)
                for done, (number, found) in enumerate(zip(unknown, hashes, strict=True), start=1):
                    if found == wanted[number].sha256:
                        _CHECKED.add((*key, found))
                    progress(min(done * PART, self.length), self.length)
        return {number: place for number, place in wanted.items() if (*key, place.sha256) in _CHECKED}

    def _decode(self, progress: Progress) -> None:
        self._start_anew_where_most_is_outdated()
        missing = [number for number in self._numbers if number not in self._places]
        self._refuse_lack_of_room(len(missing) * PART)
        ranges = [self._range(number) for number in missing]
        done = self.length - sum(map(len, ranges))
        with self.pixels.open("ab") as pixels, self.journal.open("ab") as journal:
            journal.write(b"\n")  # behind a line that was cut off
            for number, part in zip(missing, decoded_parts(self.source, ranges), strict=True):
                state = self._state(number, len(part.layout))
                place = _Place(pixels.tell(), len(part.content), part.sha256, part.layout, state)
                pixels.write(part.content.numpy().data)
                pixels.flush()
                journal.write(_line(number, place))
                journal.flush()
                self._places[number] = place
                done += len(part.layout)
                progress(done, self.length)
        stat = self.pixels.stat()
        key = (str(self.pixels), stat.st_ino, stat.st_size, stat.st_mtime_ns)
        _CHECKED.update((*key, place.sha256) for place in self._places.values())

    def _refuse_lack_of_room(self, images: int) -> None:
        needed, free = images * self.source.bytes_each, shutil.disk_usage(self.folder).free
        if needed > free:
            raise BadInput(
                f"the decoded images of {self.source.name} need about {needed / 1e9:.1f} GB in {shown(self.folder)}, "
                f"where {free / 1e9:.1f} GB are free{STEP}"
            )

    def _start_anew_where_most_is_outdated(self) -> None:
        """Remove both files where most of what they hold counts no more; who has them mapped keeps them."""
        listed = _journal(self.journal)
        current = sum(place.bytes for number, place in listed.items() if number in self._places or self._beyond(number))
        if self.pixels.is_file() and self.pixels.stat().st_size > 2 * current:
            for file in (self.pixels, self.journal):
                file.unlink(missing_ok=True)
            self._places = {}

    def _beyond(self, number: int) -> bool:
        """Tell whether a part belongs to a longer set than this one."""
        return number not in self._numbers

    @contextmanager
    def _locked(self, progress: Progress) -> Iterator[None]:
        """Hold the folder's lock inside; while another process has it, show how far that one is."""
        lock = FileLock(self.folder / "lock")
        while not lock.is_locked:
            try:
                lock.acquire(timeout=POLL_S)
            except Timeout:
                progress(min(len(_journal(self.journal)) * PART, self.length), self.length)
        try:
            yield
        finally:
            lock.release()


_CHECKED: set[tuple[str, int, int, int, str]] = set()
"""Parts whose hash this process has found right: the file as it was (path, inode, size, time), and the hash."""


def folder_name(source: ImageSource) -> str:
    """Return the folder of a data set that is read in one way."""
    where = json.dumps([os.path.realpath(source.root), source.way])
    return f"{source.name}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"


def _journal(path: Path) -> dict[int, _Place]:
    """Return the last place of each part; lines that were cut off or damaged are passed over."""
    places = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            entry = json.loads(line)
            places[int(entry["part"])] = _Place(
                int(entry["offset"]),
                int(entry["bytes"]),
                str(entry["sha256"]),
                list(entry["images"]),
                str(entry["state"]),
            )
        except (ValueError, KeyError, TypeError):
            continue
    return places


def _line(number: int, place: _Place) -> bytes:
    entry = {
        "part": number, "offset": place.offset, "bytes": place.bytes, "sha256": place.sha256, "state": place.state,
        "images": place.layout,
    }  # fmt: skip
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _hash(content: Pixels, place: _Place) -> str:
    return part_hash(content[place.offset : place.offset + place.bytes], place.layout)
