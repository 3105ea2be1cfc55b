"""What the embedded editions of detection and segmentation share: the same scenes, models built by OpenMMLab."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vitptq.tasks.mini.data import scenes
from vitptq.tasks.mini.data.generated import GeneratedData
from vitptq.tasks.mini.edition import MiniTask
from vitptq.tasks.mini.models.pretrained_segmenter import PRETRAINED_SEGMENTERS
from vitptq.tasks.mini.models.scene_models import SCENE_MODELS, SceneModel
from vitptq.tasks.openmmlab.configs import Config
from vitptq.tasks.openmmlab.task import OpenMMLabTask

BATCH = 20


class SceneTask(MiniTask, OpenMMLabTask):
    """Scenes of digits on photographs, 96 pixels; each folder of them has COCO's and ADE20K's layout."""

    data: ClassVar[GeneratedData] = scenes.DATA
    layout: ClassVar[str]
    """The folder of this task's layout in the generated folder."""

    def __init__(self, *, batch_size: int = BATCH, **options: Any) -> None:
        """Take the options of MiniTask and of the class that reads the layout."""
        super().__init__(batch_size=batch_size, **options)

    @abstractmethod
    def training_scene(self, number: int) -> Path:
        """Return where the image of a training scene is in `folder`."""

    @property
    def folder(self) -> Path:
        """Return the part of the generated folder that has this task's layout."""
        return self.generated / self.layout

    @property
    def entries(self) -> Mapping[str, SceneModel]:
        """Return the models of this task, trained here or on a pretrained backbone."""
        every = {**SCENE_MODELS, **PRETRAINED_SEGMENTERS}
        return {name: entry for name, entry in every.items() if entry.task == self.name}

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the training scene of each number."""
        return [self.folder / self.training_scene(int(name)) for name in names]

    def config(self, model: str) -> Config:
        """Return the config that the weights were trained with."""
        self.card(model)
        return self.entries[model].config()

    def input_size(self, model: str) -> tuple[int, int]:
        """Return the size of the scenes, or to which they are enlarged."""
        side = self.entries[self.card(model).name].side
        return side, side
