"""Published calibration lists of COCO: one draw of 1,024 images of train2017 per seed.

A row is a position in the list of the 118,287 training images, sorted by image id (COCO's file names are the ids, so
that is the order of the file names). Nothing of the annotations takes part.
`python -m vitptq.tasks.detection.coco_lists` writes the files again.
"""

from __future__ import annotations

from pathlib import Path

from vitptq.tasks.published_lists import SIZE, PublishedLists, Row, hashed

TRAINING_IMAGES = 118_287


def draw(seed: int) -> list[Row]:
    """Draw the positions of one seed, without repetition."""
    drawn: dict[Row, None] = {}
    number = 0
    while len(drawn) < SIZE:
        drawn[(hashed("coco calibration", seed, number) % TRAINING_IMAGES,)] = None
        number += 1
    return list(drawn)


LISTS = PublishedLists(Path(__file__).parent, ("position",), draw)
