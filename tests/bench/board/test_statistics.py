import statistics as stdlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitptq.bench.board.statistics import Interval, around, interval, mean, seed_half_width, wilson

percents = st.floats(0, 100)


@pytest.mark.parametrize(("percent", "images", "half"), [(60, 50_000, 0.43), (80, 10_000, 0.78), (85, 5_000, 0.99)])
def test_image_sampling_gives_the_published_half_widths(percent, images, half):
    low, high = wilson(percent, images)

    assert (high - low) / 2 == pytest.approx(half, abs=0.005)


@pytest.mark.parametrize(("seeds", "factor"), [(2, 8.98), (3, 2.48), (5, 1.24), (10, 0.72)])
def test_seeds_give_the_published_multiples_of_the_standard_deviation(seeds, factor):
    scores = [float(i) for i in range(seeds)]

    assert seed_half_width(scores) / stdlib.stdev(scores) == pytest.approx(factor, abs=0.005)


def test_one_seed_covers_the_images_only():
    result = interval([80.0], wilson(80.0, 3000))

    assert result == Interval(*wilson(80.0, 3000), covers="images")


def test_equal_seeds_do_not_shrink_the_noise_of_the_images():
    three = interval([80.0, 80.0, 80.0], wilson(80.0, 3000))

    assert three is not None
    assert three.covers == "images and seeds"
    assert (three.low, three.high) == pytest.approx(wilson(80.0, 3000))


def test_seeds_that_differ_widen_the_interval():
    equal = interval([80.0, 80.0, 80.0], wilson(80.0, 3000))
    spread = interval([78.0, 80.0, 82.0], wilson(80.0, 3000))

    assert equal is not None
    assert spread is not None
    assert spread.half_width > equal.half_width + 3


def test_one_seed_has_no_interval_where_nothing_tells_how_its_score_varies_with_the_images():
    assert interval([41.6], None) is None
    assert interval([], wilson(41.6, 5000)) is None


def test_a_score_of_which_no_evidence_tells_varies_over_seeds():
    result = interval([41.0, 42.0, 43.0], None)

    assert result is not None
    assert result.covers == "seeds"
    assert result.half_width == pytest.approx(2.48, abs=0.01)


def test_the_spread_of_one_seed_is_refused():
    with pytest.raises(ValueError, match="two"):
        seed_half_width([80.0])


@given(st.lists(percents, min_size=1, max_size=6), st.integers(1, 50_000))
def test_an_interval_holds_the_mean_and_stays_within_percent(scores, images):
    result = interval(scores, wilson(mean(scores), images))

    assert result is not None
    assert 0 <= result.low <= mean(scores) + 1e-9
    assert mean(scores) - 1e-9 <= result.high <= 100


@given(st.lists(percents, min_size=1, max_size=6))
def test_the_mean_does_not_depend_on_the_order(scores):
    assert mean(scores) == mean(scores[::-1])


def test_a_standard_error_gives_the_normal_interval():
    assert around(50.0, 1.0) == pytest.approx((48.04, 51.96), abs=0.005)
    assert interval([50.0], around(50.0, 1.0)) == Interval(*around(50.0, 1.0), covers="images")
