"""Digits that are written a little differently every time."""

from __future__ import annotations

import numpy as np

from vitptq.tasks.mini.data.material import digits
from vitptq.tasks.mini.training.warp import warp


def test_warped_digits_differ_but_keep_most_of_their_ink() -> None:
    images = digits("fit").images[:50]
    warped = warp(images, np.random.default_rng(0))
    assert warped.shape == images.shape and warped.dtype == np.uint8
    assert (warped != images).any(axis=(1, 2)).all()
    kept = np.minimum(warped, images).sum(axis=(1, 2)) / images.sum(axis=(1, 2))
    assert kept.mean() > 0.6


def test_a_generator_decides_the_warp() -> None:
    images = digits("fit").images[:5]
    first, again, other = (warp(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
