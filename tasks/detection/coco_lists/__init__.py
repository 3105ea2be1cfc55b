"""Published calibration lists of COCO: one draw of 1,024 images of train2017 per seed.

A row is a position in the list of the 118,287 training images, sorted by image id (COCO's file names are the ids, so
that is the order of the file names). Nothing of the annotations takes part.

The draw uses SHA-256 alone, so it is the same on every machine and in every language.
`python -m vitptq.tasks.detection.coco_lists` writes the files again; a test compares.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from vitptq.bench.errors import BadInput

IMAGES = 118_287
SIZE = 1024
SEEDS = range(5)
FOLDER = Path(__file__).parent
HEADER = "position"


def path(seed: int) -> Path:
    """Return the file of one seed."""
    return FOLDER / f"calibration_seed{seed}.csv"


@cache
def read(seed: int) -> tuple[int, ...]:
    """Return the published positions of one seed.

    >>> len(read(0)), len(set(read(0))), max(read(0)) < IMAGES
    (1024, 1024, True)
    """
    if seed not in SEEDS:
        raise BadInput(f"no calibration list is published for seed {seed}; published: {', '.join(map(str, SEEDS))}")
    return tuple(int(line) for line in path(seed).read_text(encoding="utf-8").split()[1:])


def draw(seed: int) -> list[int]:
    """Draw the positions of one seed, without repetition."""
    drawn: dict[int, None] = {}
    number = 0
    while len(drawn) < SIZE:
        digest = hashlib.sha256(f"vitptq coco calibration {seed} {number}".encode()).digest()
        drawn[int.from_bytes(digest, "big") % IMAGES] = None
        number += 1
    return list(drawn)


def write(folder: Path = FOLDER) -> None:
    """Write the lists of all seeds."""
    for seed in SEEDS:
        (folder / path(seed).name).write_text("\n".join([HEADER, *map(str, draw(seed))]) + "\n", encoding="utf-8")
