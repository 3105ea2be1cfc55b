"""The embedded edition of ADE20K: scenes of digits on photographs, generated here, read by ADE20K's code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from vitptq.tasks.mini.data import scenes
from vitptq.tasks.mini.data.compose_scene import SIDE
from vitptq.tasks.mini.scene_edition import SceneTask
from vitptq.tasks.openmmlab.configs import Config
from vitptq.tasks.segmentation.task import SegmentationTask

PICTURES = 6


class MiniAde20k(SceneTask, SegmentationTask):
    """500 scenes of unseen digits on unseen photographs, 96 pixels, 11 classes: the photograph and ten digits."""

    name: ClassVar[str] = "ade20k"
    title: ClassVar[str] = "Scenes of digits (embedded): semantic segmentation"
    true_labels: ClassVar[str] = "a7e396d918040c4a7c96def20e7d5471063d2c0ae8228f1d2216c487ea1e17ab"
    layout: ClassVar[str] = scenes.ADE

    def __init__(self, **options: Any) -> None:
        """Take the options of SceneTask."""
        super().__init__(classes=len(scenes.SEGMENT_CLASSES), pictures=PICTURES, **options)

    def training_scene(self, number: int) -> Path:
        """Return where the image of a training scene is in `folder`."""
        return scenes.ade_image("train", number)

    def dataset_config(self, model: str) -> Config:
        """Return mmseg's data set with the scenes' classes; its pipeline is ADE20K's, which resizes where it has to."""
        size = self.input_size(model)
        resizing = [] if size == (SIDE, SIDE) else [{"type": "Resize", "scale": size, "keep_ratio": False}]
        return {
            "type": "BaseSegDataset",
            "metainfo": {"classes": scenes.SEGMENT_CLASSES},
            "reduce_zero_label": True,
            "pipeline": [
                {"type": "LoadImageFromFile"},
                *resizing,
                {"type": "LoadAnnotations", "reduce_zero_label": True},
                {"type": "PackSegInputs"},
            ],
        }
