"""Pictures of scenes with what a detector found."""

from __future__ import annotations

import numpy as np

from tests.tasks.detection.coco_tree import CLASSES, SmallCoco, guessed
from vitptq.tasks.detection import pictures


def test_scenes_show_truth_and_confident_detections(task: SmallCoco) -> None:
    found = guessed(task)
    scenes = pictures.scenes(found, task.val, CLASSES, count=2)
    assert [scene.title for scene in scenes] == ["Scene 101", "Scene 102"]
    for image, scene in enumerate(scenes):
        own = found["truth_images"] == image
        assert scene.image.shape == (*found["image_sizes"][image], 3)
        assert np.allclose(scene.truth.boxes, found["truth_boxes"][own])
        assert scene.truth.labels == CLASSES
        shown = (found["images"] == image) & (found["scores"] >= pictures.CONFIDENT)
        assert len(scene.found.boxes) == len(scene.found.labels) == shown.sum() > 0
        assert scene.found.classes.max() <= 3 and 0 < (scene.found.classes > 0).mean() < 1
        assert scene.found.labels[-1].endswith(f"{found['scores'][shown].max():.2f}")
    assert pictures.scenes(found, task.train, CLASSES) == []
