"""The published calibration lists of COCO."""

from __future__ import annotations

import pytest

from vitptq.tasks.detection.coco_lists import LISTS, TRAINING_IMAGES
from vitptq.tasks.published_lists import SEEDS


@pytest.mark.parametrize("seed", SEEDS)
def test_positions_exist_and_come_from_the_whole_split(seed: int) -> None:
    drawn = [position for (position,) in LISTS.read(seed)]
    assert 0 <= min(drawn) < TRAINING_IMAGES / 100
    assert 0.99 * TRAINING_IMAGES < max(drawn) < TRAINING_IMAGES
