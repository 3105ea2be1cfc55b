"""How scores vary with the images, as a task tells."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.tiny_task import TinyTask
from vitptq.bench.board.image_noise import RESAMPLES, ImageNoise, image_counts, measured
from vitptq.bench.contracts.task import Evidence, Resampler

EVIDENCE = {"predictions": np.arange(50) % 5, "labels": np.zeros(50, int)}


class Resampled(TinyTask):
    """A score that is no share of the images."""

    def correct(self, evidence: Evidence) -> None:  # type: ignore[override]
        """Tell nothing of single images."""

    def resampler(self, evidence: Evidence) -> Resampler:
        """Score the share, and a figure that is not known of resamples."""
        right = evidence["predictions"] == evidence["labels"]
        return lambda counts: {"share": 100 * counts @ right / counts.sum(axis=1), "odd": np.full(len(counts), np.nan)}


def test_right_images_and_resamples_tell_of_the_same_variance() -> None:
    (right,) = measured(TinyTask(), EVIDENCE, "tiny-1").values()
    resampled = measured(Resampled(), EVIDENCE, "tiny-1")
    assert right.per_image and not resampled["share"].per_image
    errors = [np.sqrt(noise.variance_of(noise.percent)) for noise in (right, resampled["share"])]
    assert errors[0] == pytest.approx(100 * np.sqrt(0.2 * 0.8 / 49), rel=1e-6)
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


def test_a_score_that_a_resample_does_not_define_is_left_out() -> None:
    assert set(measured(Resampled(), EVIDENCE, "tiny-1")) == {"share"}


def test_resamples_are_those_of_the_data_version_and_draw_as_many_images() -> None:
    one = image_counts("tiny-1", 50)
    assert one.shape == (RESAMPLES, 50)
    assert set(one.sum(axis=1).tolist()) == {50}
    image_counts.cache_clear()
    assert np.array_equal(one, image_counts("tiny-1", 50))
    assert not np.array_equal(one, image_counts("tiny-2", 50))


def test_only_noise_of_one_kind_and_length_can_be_paired() -> None:
    bits, scores = ImageNoise(np.ones(50, bool)), ImageNoise(np.ones(50))
    assert bits.matches(bits) and not bits.matches(scores)
    assert not bits.matches(ImageNoise(np.ones(49, bool)))
