"""Published calibration lists of ImageNet: one draw of 1,024 training images per seed.

File names of ImageNet's training split cannot be derived, so a row is (class, position): the class by its index among
the sorted class folders, the image by its position in that class's sorted file list. Every class has at least 732
images; positions stay below that. The first 1,000 rows visit every class once, so the first 32 and the first 128 are
that many distinct classes. `python -m vitptq.tasks.classification.imagenet_lists` writes the files again.
"""

from __future__ import annotations

from pathlib import Path

from vitptq.tasks.published_lists import SIZE, PublishedLists, Row, hashed

CLASSES = 1000
SMALLEST_CLASS = 732


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


def _number(seed: int, purpose: str, round_: int, label: int) -> int:
    return hashed("imagenet calibration", seed, purpose, round_, label)


LISTS = PublishedLists(Path(__file__).parent, ("class", "position"), draw)
