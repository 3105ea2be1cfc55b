"""Published calibration lists of ADE20K: one draw of 1,024 training images per seed.

A row is a position in the sorted file names of `images/training`, counted from 0; the set has 20,210 images.
`python -m vitptq.tasks.segmentation.ade20k_lists` writes the files again.
"""

from __future__ import annotations

from pathlib import Path

from vitptq.tasks.published_lists import SIZE, PublishedLists, Row, hashed

TRAINING_IMAGES = 20_210


def draw(seed: int) -> list[Row]:
    """Draw the positions of one seed: the images in the order of a hash of seed and position."""
    order = sorted(range(TRAINING_IMAGES), key=lambda position: hashed("ade20k calibration", seed, position))
    return [(position,) for position in order[:SIZE]]


LISTS = PublishedLists(Path(__file__).parent, ("position",), draw)
