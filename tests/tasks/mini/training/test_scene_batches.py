"""The scenes of a training step."""

from __future__ import annotations

import numpy as np

from vitptq.tasks.mini.training.scene_batches import fit_batch


def test_every_step_brings_new_scenes_and_repeats_exactly() -> None:
    first, again, second = fit_batch(0, 2, 0), fit_batch(0, 2, 0), fit_batch(0, 2, 1)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, second.images)
