"""What the embedded editions of detection and segmentation share: the same scenes, models built by OpenMMLab."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import ClassVar

from torch import nn

from vitptq.bench.contracts.task import ModelCard
from vitptq.tasks.mini import scene_models, scenes
from vitptq.tasks.mini.edition import TOLERANCE, MiniTask
from vitptq.tasks.mini.scene_models import SceneModel

BATCH = 20


class SceneTask(MiniTask):
    """Scenes of digits on photographs, 96 pixels; each folder of them has COCO's and ADE20K's layout."""

    generator: ClassVar[ModuleType] = scenes
    kind: ClassVar[str] = "scenes"

    @property
    def entries(self) -> Mapping[str, SceneModel]:
        """Return the models of this task."""
        return {name: entry for name, entry in scene_models.SCENE_MODELS.items() if entry.task == self.name}

    def entry_card(self, model: str) -> ModelCard:
        """Return the card of a published model."""
        entry = self.entries[model]
        return ModelCard(
            name=model,
            family=entry.family,
            checkpoint=entry.sha256,
            reference=entry.scores,
            tolerance=TOLERANCE,
            source=f"tasks/mini/weights/{entry.weights.stem}.json",
        )

    def entry_model(self, model: str) -> nn.Module:
        """Build the model with its weights."""
        return scene_models.load(model)
