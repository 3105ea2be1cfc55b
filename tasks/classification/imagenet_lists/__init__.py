"""Published calibration lists of ImageNet: one draw of 1,024 training images per seed.

File names of ImageNet's training split cannot be derived, so a row is (class, position): the class by its index among
the sorted class folders, the image by its position in that class's sorted file list. Every class has at least 732
images; positions stay below that. The first 1,000 rows visit every class once, so the first 32 and the first 128 are
that many distinct classes.

The draw uses SHA-256 alone, so it is the same on every machine and in every language.
`python -m vitptq.tasks.classification.imagenet_lists` writes the files again; a test compares.
"""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from pathlib import Path

from vitptq.bench.errors import BadInput

CLASSES = 1000
SMALLEST_CLASS = 732
SIZE = 1024
SEEDS = range(5)
FOLDER = Path(__file__).parent

Row = tuple[int, int]


def path(seed: int) -> Path:
    """Return the file of one seed."""
    return FOLDER / f"calibration_seed{seed}.csv"


@cache
def read(seed: int) -> tuple[Row, ...]:
    """Return the published rows (class, position) of one seed.

    >>> len(read(0)), len(set(read(0)))
    (1024, 1024)
    """
    if seed not in SEEDS:
        raise BadInput(f"no calibration list is published for seed {seed}; published: {', '.join(map(str, SEEDS))}")
    with path(seed).open(encoding="utf-8", newline="") as lines:
        return tuple((int(row["class"]), int(row["position"])) for row in csv.DictReader(lines))


def draw(seed: int) -> list[Row]:
    """Draw the rows of one seed: round after round, every class in random order with an image not drawn before."""
    rows: list[Row] = []
    seen: set[Row] = set()
    for round_ in range(-(-SIZE // CLASSES)):
        for label in sorted(range(CLASSES), key=lambda label: _number(seed, "order", round_, label)):
            position = _number(seed, "position", round_, label) % SMALLEST_CLASS
            while (label, position) in seen:
                position = (position + 1) % SMALLEST_CLASS
            seen.add((label, position))
            rows.append((label, position))
    return rows[:SIZE]


def write(folder: Path = FOLDER) -> None:
    """Write the lists of all seeds."""
    for seed in SEEDS:
        lines = ["class,position", *(f"{label},{position}" for label, position in draw(seed))]
        (folder / path(seed).name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _number(seed: int, purpose: str, round_: int, label: int) -> int:
    digest = hashlib.sha256(f"vitptq imagenet calibration {seed} {purpose} {round_} {label}".encode()).digest()
    return int.from_bytes(digest, "big")
