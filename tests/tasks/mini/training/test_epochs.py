"""The images of an epoch."""

from __future__ import annotations

import numpy as np

from vitptq.tasks.mini.training.epochs import ClassifierRecipe, epoch_images

TINY = ClassifierRecipe(epochs=2, images=64, batch=32, warmup=1)


def test_every_epoch_brings_new_images_and_repeats_exactly() -> None:
    first, _ = epoch_images(TINY, 0)
    again, _ = epoch_images(TINY, 0)
    second, _ = epoch_images(TINY, 1)
    assert (first == again).all()
    assert (first != second).any(axis=(1, 2, 3)).all()


def test_an_epoch_uses_every_digit_before_repeating_one() -> None:
    _, labels = epoch_images(ClassifierRecipe(images=3400), 0)
    assert np.bincount(labels).tolist() == [340] * 10
