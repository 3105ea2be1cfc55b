"""How much room on disk cells will take: records and evidence, judged by what is there, and decoded images."""

from __future__ import annotations

import json
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vitptq.bench import registry
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record
from vitptq.bench.run.time_estimate import PRIORS

ANY = ""
"""Every way of quantising but one: generating images leaves these beside the evidence."""
GENERATE = "generate"


class DiskEstimates:
    """Knows the median size of what measured cells left on disk; made once for any number of cells."""

    def __init__(self, records: Iterable[Record], evidence: Path, families: Mapping[str, str]) -> None:
        """Learn from the files in `evidence`; `families` tells which methods generate images."""
        self._families = families
        files: dict[str, int] = defaultdict(int)
        for file in evidence.glob("*.npz"):
            files[file.name.partition(".")[0]] += file.stat().st_size
        sizes: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for record in records:
            if record.id in files:
                sizes[self._key(record.cell)].append(files[record.id])
        self._medians = {key: statistics.median(found) for key, found in sizes.items()}

    def of(self, cell: Cell) -> float:
        """Return bytes for a cell; 0 where nothing is like it."""
        task, edition, family = key = self._key(cell)
        return self._medians.get(key, _priors().get(f"{task}/{edition}", {}).get(family, 0.0))

    def _key(self, cell: Cell) -> tuple[str, str, str]:
        family = GENERATE if self._families.get(cell.method) == GENERATE else ANY
        return (cell.task, cell.edition, family)


@dataclass(frozen=True)
class ImageRoom:
    """What decoded images take on disk, by folder."""

    needed: Mapping[Path, int]

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> ImageRoom:
        """Return what the cells' tasks say; cells that read the same images in the same way share them."""
        needed: dict[Path, int] = {}
        for task, edition, model, count, seed in sorted(cls.reads(cells)):
            for folder, room in registry.task(task, edition).room_for_images(model, count, seed).items():
                needed[folder] = max(room, needed.get(folder, 0))
        return cls(needed)

    @staticmethod
    def reads(cells: Iterable[Cell]) -> set[tuple[str, str, str, int, int]]:
        """Return what decides the images: task, edition, model, calibration size and seed."""
        return {(c.task, c.edition, c.model, c.calibration_size if c.calibration_list else 0, c.seed) for c in cells}

    @property
    def bytes(self) -> int:
        """Return what all of them take."""
        return sum(self.needed.values())

    @property
    def there(self) -> int:
        """Return how much of it is there already."""
        return sum(min(room, _bytes_in(folder)) for folder, room in self.needed.items())

    @property
    def place(self) -> Path | None:
        """Return the folder that holds the others; None where nothing is kept."""
        return next(iter(self.needed)).parent if self.needed else None

    def __str__(self) -> str:
        """Say it in a sentence; empty where nothing is kept."""
        if not self.needed:
            return ""
        there = f", {size(self.there)} of it there" if self.there else ""
        return f"decoded images are kept in {self.place}: about {size(self.bytes)}{there} (run --no-cache keeps none)"


def free_at(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or will be."""
    return shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.is_dir())).free


def _bytes_in(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:
        return 0


def size(count: float) -> str:
    """Return a number of bytes for people.

    >>> size(3.2e9), size(15_000)
    ('3.2 GB', '15.0 kB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@cache
def _priors() -> dict[str, dict[str, float]]:
    priors: dict[str, dict[str, float]] = json.loads(PRIORS.read_text(encoding="utf-8"))["bytes"]
    return priors
