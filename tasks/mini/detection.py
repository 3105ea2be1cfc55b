"""The embedded edition of COCO: scenes of digits on photographs, generated here, read by COCO's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vitptq.bench.contracts.task import Evidence, Scene
from vitptq.tasks.detection import pictures
from vitptq.tasks.detection.coco import CocoTask
from vitptq.tasks.mini import scene_models, scenes
from vitptq.tasks.mini.compose_scene import SIDE
from vitptq.tasks.mini.scene_task import BATCH, SceneTask


class MiniCoco(SceneTask, CocoTask):
    """500 scenes of unseen digits on unseen photographs, 96 pixels, 10 classes."""

    name: ClassVar[str] = "coco"
    title: ClassVar[str] = "Scenes of digits (embedded): detection and instance segmentation"

    def __init__(
        self,
        *,
        root: Path | None = None,
        counts: scenes.Counts = scenes.STANDARD,
        batch_size: int = BATCH,
        **reading: Any,
    ) -> None:
        """Use `root` in place of `VITPTQ_DATA`; other `counts` make a data set that no published score belongs to."""
        super().__init__(images=counts.val, scale=(SIDE, SIDE), size=(SIDE, SIDE), batch_size=batch_size, **reading)
        self._root, self._counts = root, counts

    @property
    def folder(self) -> Path:
        """Return the part in COCO's layout."""
        return self.generated / scenes.COCO

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the digits."""
        return scenes.THING_CLASSES

    def scenes(self, found: Evidence) -> Sequence[Scene]:
        """Return a few scenes with what the model found in them."""
        self._check(found)
        return pictures.scenes(found, self.val, self.classes)

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the training scene of each number."""
        return [self.folder / scenes.coco_image("train", int(name)) for name in names]

    def config(self, model: str) -> Mapping[str, Any]:
        """Return the config that the weights were trained with."""
        self.card(model)
        config: Mapping[str, Any] = scene_models.SCENE_MODELS[model].config()
        return config
