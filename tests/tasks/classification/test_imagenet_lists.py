"""The published calibration lists of ImageNet."""

from __future__ import annotations

import pytest

from vitptq.tasks.classification.imagenet_lists import LISTS
from vitptq.tasks.published_lists import SEEDS


@pytest.mark.parametrize("seed", SEEDS)
def test_lists_are_balanced_and_exist_in_every_class(seed: int) -> None:
    drawn = LISTS.read(seed)
    assert len({label for label, _ in drawn[:1000]}) == 1000
    assert all(0 <= label < 1000 and 0 <= position < 732 for label, position in drawn)
