"""The embedded edition of COCO: scenes of digits on photographs, generated here, read by COCO's code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from vitptq.bench.contracts.task import Evidence, Scene
from vitptq.tasks.detection import pictures
from vitptq.tasks.detection.task import DetectionTask
from vitptq.tasks.mini.data import scenes
from vitptq.tasks.mini.data.compose_scene import SIDE
from vitptq.tasks.mini.scene_edition import SceneTask


class MiniCoco(SceneTask, DetectionTask):
    """500 scenes of unseen digits on unseen photographs, 96 pixels, 10 classes."""

    name: ClassVar[str] = "coco"
    title: ClassVar[str] = "Scenes of digits (embedded): detection and instance segmentation"
    true_labels: ClassVar[str] = "8a947b85ad187e9dde2fe34e6bb272e81124beb051ea22762ceb0b27fbdcfc34"
    layout: ClassVar[str] = scenes.COCO

    def __init__(self, **options: Any) -> None:
        """Take the options of SceneTask."""
        super().__init__(scale=(SIDE, SIDE), size=(SIDE, SIDE), **options)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the digits."""
        return scenes.THING_CLASSES

    def training_scene(self, number: int) -> Path:
        """Return where the image of a training scene is in `folder`."""
        return scenes.coco_image("train", number)

    def scenes(self, found: Evidence) -> Sequence[Scene]:
        """Return a few scenes with what the model found in them."""
        self._check(found)
        return pictures.scenes(found, self.val, self.classes)
