"""The paired difference of two methods."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from vitptq.bench.board.image_noise import ImageNoise
from vitptq.bench.board.paired_difference import Difference, Draw, difference
from vitptq.bench.board.seed_spread import SeedSpread

RNG = np.random.default_rng


def right(share: float, images: int, seed: int) -> np.ndarray:
    return RNG(seed).random(images) < share


def draws(right_by_seed: dict[int, np.ndarray]) -> dict[int, Draw]:
    return {seed: Draw(100 * right.mean(), ImageNoise(right)) for seed, right in right_by_seed.items()}


def apart(ours: dict[int, np.ndarray], theirs: dict[int, np.ndarray], spread: SeedSpread | None = None) -> Difference:
    found = difference(draws(ours), draws(theirs), spread)
    assert found is not None
    return found


def test_four_images_that_one_method_alone_has_right_separate_nothing() -> None:
    theirs = np.ones(3000, bool)
    theirs[:4] = False
    found = apart({0: np.ones(3000, bool)}, {0: theirs})
    assert found.points == pytest.approx(0.1333, abs=1e-4)
    assert found.p == 0.125
    assert found.verdict == "not separated"
    assert found.low < 0 < found.high


@pytest.mark.parametrize(("won", "lost"), [(5, 0), (6, 0), (30, 12), (12, 30), (7, 7), (0, 0)])
def test_one_draw_is_mcnemars_exact_test_and_its_interval_agrees(won: int, lost: int) -> None:
    ours, theirs = np.ones(400, bool), np.ones(400, bool)
    ours[:lost], theirs[lost : lost + won] = False, False
    found = apart({0: ours}, {0: theirs})
    expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert found.p == pytest.approx(expected)
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05)
    assert (found.covers, found.seeds, found.exact) == ("images", 1, True)


def test_two_draws_are_students_interval_with_welchs_degrees() -> None:
    ours = {seed: right(0.9 - 0.01 * seed, 400, seed) for seed in range(2)}
    theirs = {seed: right(0.8, 400, 5 + seed) for seed in range(2)}
    each = 100.0 * np.stack([ours[seed].astype(float) - theirs[seed] for seed in range(2)])
    images, seeds = each.mean(axis=0).var(ddof=1) / 400, each.mean(axis=1).var(ddof=1) / 2
    freedom = (images + seeds) ** 2 / (images**2 / 399 + seeds**2)
    low, high = stats.t.interval(0.95, freedom, loc=each.mean(), scale=np.sqrt(images + seeds))
    found = apart(ours, theirs)
    assert (found.points, found.low, found.high) == pytest.approx((each.mean(), low, high))
    assert found.p == pytest.approx(2 * stats.t.sf(each.mean() / np.sqrt(images + seeds), freedom))


def test_resampled_scores_are_compared_resample_by_resample() -> None:
    common, own = 3 * RNG(1).standard_normal(1000), 0.1 * RNG(2).standard_normal(1000)
    ours, theirs = Draw(50.5, ImageNoise(50.5 + common + own)), Draw(50.0, ImageNoise(50.0 + common))
    found = difference({0: ours}, {0: theirs})
    assert found is not None
    assert found.half_width == pytest.approx(1.96 * own.std(ddof=1), rel=1e-3)
    assert (found.points, found.verdict, found.covers) == (0.5, "better", "images")


def test_a_pooled_spread_replaces_that_of_the_pair() -> None:
    ours, theirs = ({seed: right(share, 3000, seed) for seed in range(3)} for share in (0.9, 0.8))
    narrow, wide = (apart(ours, theirs, SeedSpread(variance, 20, frozenset())) for variance in (0.01, 4.0))
    assert narrow.half_width < 1 < wide.half_width
    assert wide.half_width == pytest.approx(stats.t.ppf(0.975, 20) * np.sqrt(2 * 4.0 / 3), rel=0.1)


def test_seeds_that_agree_on_every_image_leave_the_noise_of_the_images() -> None:
    ours, theirs = right(0.9, 400, 1), right(0.8, 400, 2)
    two, three = (apart(dict.fromkeys(seeds, ours), dict.fromkeys(seeds, theirs)) for seeds in ((0, 1), (0, 1, 2)))
    assert three.half_width == pytest.approx(two.half_width)


def test_seeds_that_differ_widen_the_interval() -> None:
    theirs = {seed: np.zeros(400, bool) for seed in range(3)}
    steady = {seed: np.arange(400) % 4 == 0 for seed in range(3)}
    shaky = {seed: np.arange(400) % 4 < seed for seed in range(3)}
    calm, wild = apart(steady, theirs), apart(shaky, theirs)
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
        found = apart(ours, theirs)
        inside += found.low <= 0 <= found.high
    assert inside / 400 >= 0.93


def test_equal_predictions_are_not_separated_and_missing_seeds_give_nothing() -> None:
    same = right(0.9, 50, 1)
    for seeds in ((0,), (0, 1)):
        found = apart(dict.fromkeys(seeds, same), {0: same, 1: same})
        assert (found.points, found.half_width, found.verdict, found.seeds) == (0, 0, "not separated", len(seeds))
    assert difference(draws({0: same}), draws({1: same})) is None


def test_scores_of_other_images_are_not_compared() -> None:
    assert difference(draws({0: right(0.9, 50, 1)}), draws({0: right(0.9, 60, 1)})) is None
    resampled = {0: Draw(50.0, ImageNoise(RNG(1).random(50)))}
    assert difference(draws({0: right(0.9, 50, 1)}), resampled) is None
