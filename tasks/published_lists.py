"""Calibration lists that the project publishes as CSV files: one draw of training images per seed.

The draw of a list uses SHA-256 alone, so it is the same on every machine and in every language.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vitptq.bench.errors import BadInput

SIZE = 1024
SEEDS = range(5)

Row = tuple[int, ...]


@dataclass(frozen=True)
class PublishedLists:
    """The lists of one data set; the first rows of a list are the smaller calibration sets."""

    folder: Path
    columns: tuple[str, ...]
    """Names of the numbers of a row."""
    draw: Callable[[int], Sequence[Row]]
    """Returns the `SIZE` rows of a seed, as they were published."""

    def path(self, seed: int) -> Path:
        """Return the file of one seed."""
        return self.folder / f"calibration_seed{seed}.csv"

    def read(self, seed: int) -> tuple[Row, ...]:
        """Return the published rows of one seed, or raise BadInput with the published seeds."""
        if seed not in SEEDS:
            raise BadInput(f"no calibration list is published for seed {seed}; published: {', '.join(map(str, SEEDS))}")
        return _rows(self.path(seed), self.columns)

    def names(self, seed: int) -> tuple[str, ...]:
        """Return the rows of one seed as texts: their numbers, separated by "/"."""
        return tuple("/".join(map(str, row)) for row in self.read(seed))

    def write(self, folder: Path | None = None) -> None:
        """Draw the lists of all seeds again and write them to `folder` (default: where they are published)."""
        for seed in SEEDS:
            lines = [",".join(self.columns), *(",".join(map(str, row)) for row in self.draw(seed))]
            ((folder or self.folder) / self.path(seed).name).write_text("\n".join(lines) + "\n", encoding="utf-8")


@cache
def _rows(path: Path, columns: tuple[str, ...]) -> tuple[Row, ...]:
    with path.open(encoding="utf-8", newline="") as lines:
        return tuple(tuple(int(row[column]) for column in columns) for row in csv.DictReader(lines))


def hashed(*parts: object) -> int:
    """Return the sha256 of the parts, separated by blanks after the project's name, as a number of 256 bits."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, ("vitptq", *parts))).encode()).digest(), "big")
