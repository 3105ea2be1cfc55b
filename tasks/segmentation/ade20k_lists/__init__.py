"""Published calibration lists of ADE20K: one draw of 1,024 training images per seed.

A row is a position in the sorted file names of `images/training`, counted from 0; the set has 20,210 images. The first
32 rows are the calibration set of 32 images, the first 128 that of 128.

The draw uses SHA-256 alone, so it is the same on every machine and in every language.
`python -m vitptq.tasks.segmentation.ade20k_lists` writes the files again; a test compares.
"""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from pathlib import Path

from vitptq.bench.errors import BadInput

TRAINING_IMAGES = 20_210
SIZE = 1024
SEEDS = range(5)
FOLDER = Path(__file__).parent


def path(seed: int) -> Path:
    """Return the file of one seed."""
    return FOLDER / f"calibration_seed{seed}.csv"


@cache
def read(seed: int) -> tuple[int, ...]:
    """Return the published positions of one seed.

    >>> len(read(0)), len(set(read(0)))
    (1024, 1024)
    """
    if seed not in SEEDS:
        raise BadInput(f"no calibration list is published for seed {seed}; published: {', '.join(map(str, SEEDS))}")
    with path(seed).open(encoding="utf-8", newline="") as lines:
        return tuple(int(row["position"]) for row in csv.DictReader(lines))


def draw(seed: int) -> list[int]:
    """Draw the positions of one seed: the images in the order of a hash of seed and position."""
    return sorted(range(TRAINING_IMAGES), key=lambda position: _number(seed, position))[:SIZE]


def write(folder: Path = FOLDER) -> None:
    """Write the lists of all seeds."""
    for seed in SEEDS:
        lines = ["position", *map(str, draw(seed))]
        (folder / path(seed).name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _number(seed: int, position: int) -> bytes:
    return hashlib.sha256(f"vitptq ade20k calibration {seed} {position}".encode()).digest()
