"""The embedded edition of ADE20K: scenes of digits on photographs, generated here, read by ADE20K's code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from vitptq.tasks.mini import scene_models, scenes
from vitptq.tasks.mini.compose_scene import SIDE
from vitptq.tasks.mini.scene_task import BATCH, SceneTask
from vitptq.tasks.segmentation.task import Ade20kTask, Config

PICTURES = 6


class MiniAde20k(SceneTask, Ade20kTask):
    """500 scenes of unseen digits on unseen photographs, 96 pixels, 11 classes: the photograph and ten digits."""

    name: ClassVar[str] = "ade20k"
    title: ClassVar[str] = "Scenes of digits (embedded): semantic segmentation"

    def __init__(
        self,
        *,
        root: Path | None = None,
        counts: scenes.Counts = scenes.STANDARD,
        batch_size: int = BATCH,
        **reading: Any,
    ) -> None:
        """Use `root` in place of `VITPTQ_DATA`; other `counts` make a data set that no published score belongs to."""
        super().__init__(
            classes=len(scenes.SEGMENT_CLASSES),
            images=counts.val,
            batch_size=batch_size,
            pictures=PICTURES,
            **reading,
        )
        self._root, self._counts = root, counts

    @property
    def folder(self) -> Path:
        """Return the part in ADE20K's layout."""
        return self.generated / scenes.ADE

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the training scene of each number."""
        return [self.folder / scenes.ade_image("train", int(name)) for name in names]

    def model_config(self, model: str) -> Config:
        """Return the config that the weights were trained with."""
        self.card(model)
        return scene_models.SCENE_MODELS[model].config()

    def dataset_config(self, model: str) -> Config:
        """Return mmseg's data set with the scenes' classes; its pipeline is ADE20K's without the resizing."""
        return {
            "type": "BaseSegDataset",
            "metainfo": {"classes": scenes.SEGMENT_CLASSES},
            "reduce_zero_label": True,
            "pipeline": [
                {"type": "LoadImageFromFile"},
                {"type": "LoadAnnotations", "reduce_zero_label": True},
                {"type": "PackSegInputs"},
            ],
        }

    def input_size(self, model: str) -> tuple[int, int]:
        """Return the scenes' size."""
        return SIDE, SIDE
