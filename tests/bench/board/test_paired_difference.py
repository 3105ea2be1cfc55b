"""The paired difference of two methods."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from vitptq.bench.board.paired_difference import difference

RNG = np.random.default_rng


def right(share: float, images: int, seed: int) -> np.ndarray:
    return RNG(seed).random(images) < share


def test_one_seed_is_students_interval_over_the_images() -> None:
    ours, theirs = right(0.9, 400, 1), right(0.8, 400, 2)
    found = difference({0: ours}, {0: theirs})
    assert found is not None
    each = 100.0 * (ours.astype(float) - theirs)
    low, high = stats.t.interval(0.95, 399, loc=each.mean(), scale=each.std(ddof=1) / 20)
    assert (found.points, found.low, found.high) == pytest.approx((each.mean(), low, high))
    assert (found.covers, found.seeds, found.images) == ("images", 1, 400)


def test_seeds_that_agree_on_every_image_leave_the_noise_of_the_images() -> None:
    ours, theirs = right(0.9, 400, 1), right(0.8, 400, 2)
    one, three = (difference(dict.fromkeys(seeds, ours), dict.fromkeys(seeds, theirs)) for seeds in ((0,), (0, 1, 2)))
    assert one is not None and three is not None
    assert three.half_width == pytest.approx(one.half_width)


def test_seeds_that_differ_widen_the_interval() -> None:
    theirs = {seed: np.zeros(400, bool) for seed in range(3)}
    steady = {seed: np.arange(400) % 4 == 0 for seed in range(3)}
    shaky = {seed: np.arange(400) % 4 < seed for seed in range(3)}
    calm, wild = difference(steady, theirs), difference(shaky, theirs)
    assert calm is not None and wild is not None
    assert calm.points == wild.points == 25
    # differences by seed of 0, 25 and 50 points: t with 2 degrees of freedom alone is 2.48 deviations
    assert wild.half_width == pytest.approx(2.48 * 25, rel=0.02)
    assert wild.verdict == "not separated"
    assert calm.verdict == "better"


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    inside = 0
    for trial in range(400):
        rng = RNG(trial)
        hard = rng.random(300)  # the same images are hard for both, and draws differ by a point or so
        ours, theirs = (
            {seed: hard < share + 0.01 * rng.standard_normal() + 0.05 * rng.standard_normal(300) for seed in range(3)}
            for share in (0.80, 0.80)
        )
        found = difference(ours, theirs)
        assert found is not None
        inside += found.low <= 0 <= found.high
    assert inside / 400 >= 0.93


def test_equal_predictions_are_not_separated_and_missing_seeds_give_nothing() -> None:
    same = right(0.9, 50, 1)
    found = difference({0: same}, {0: same, 1: same})
    assert found is not None
    assert (found.points, found.half_width, found.verdict, found.seeds) == (0, 0, "not separated", 1)
    assert difference({0: same}, {1: same}) is None


def test_other_numbers_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="different numbers of images"):
        difference({0: right(0.9, 50, 1)}, {0: right(0.9, 60, 1)})
