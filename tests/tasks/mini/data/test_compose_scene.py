"""Composed scenes."""

from __future__ import annotations

import numpy as np

from vitptq.tasks.mini.data import scenes


def test_masks_of_a_scene_do_not_overlap_and_every_digit_is_seen() -> None:
    for scene in scenes.scenes("val", 20):
        assert 2 <= len(scene.labels) <= 5
        assert scene.masks.sum(axis=0).max() == 1
        assert scene.masks.sum(axis=(1, 2)).min() >= 20


def test_digits_stand_out_from_what_is_behind_them() -> None:
    for scene in scenes.scenes("val", 10):
        brightness = scene.image.astype(np.int64) @ np.array([77, 150, 29]) >> 8
        behind = brightness[~scene.masks.any(axis=0)].mean()
        for mask in scene.masks:
            assert brightness[mask].mean() > behind + 25
