"""Detectors and the segmenter of the embedded edition, built by mmdet and mmseg, with weights trained here.

The weights are stored as 16-bit floats to keep the repository small and are used as 32-bit floats. The reference
scores are those of the stored weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vitptq.tasks.mini.data.compose_scene import SIDE
from vitptq.tasks.mini.models.scene_configs import Config, cascade_mask_rcnn_swin, mask_rcnn_swin, upernet_swin
from vitptq.tasks.mini.models.shipped import ShippedModel, WeightsError, facts
from vitptq.tasks.openmmlab.libraries import Scope
from vitptq.tasks.openmmlab.models import build

Task = Literal["coco", "ade20k"]
_SCOPES: dict[Task, Scope] = {"coco": "mmdet", "ade20k": "mmseg"}


@dataclass(frozen=True, slots=True)
class SceneModel(ShippedModel):
    """A detector or segmenter: its task and its OpenMMLab configuration."""

    task: Task
    config: Callable[[], Config]

    @property
    def side(self) -> int:
        """Return the size of the images that the model reads, in pixels."""
        return SIDE

    @property
    def scope(self) -> Scope:
        """Return the library that builds the model."""
        return _SCOPES[self.task]

    @property
    def scores(self) -> Mapping[str, float]:
        """Return the float scores in percent on the 500 evaluation scenes, measured by the benchmark's own task."""
        return {key: float(value) for key, value in facts(self.name)["scores"].items()}

    def load(self) -> nn.Module:
        """Return the model with its weights, in eval mode."""
        state = self.state()
        model = build(self.config(), self.scope)
        model.load_state_dict(widened(state))
        return model


_ALL = (
    SceneModel("mini_mask_rcnn_swin", "swin", "coco", mask_rcnn_swin),
    SceneModel("mini_cascade_mask_rcnn_swin", "swin", "coco", cascade_mask_rcnn_swin),
    SceneModel("mini_upernet_swin", "swin", "ade20k", upernet_swin),
)
SCENE_MODELS: dict[str, SceneModel] = {model.name: model for model in _ALL}


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as they are stored: floats in 16 bits, integers as they are."""
    stored = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    stored = {key: value.half() if value.is_floating_point() else value for key, value in stored.items()}
    broken = [key for key, value in stored.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise WeightsError(f"{', '.join(broken)}: not finite as 16-bit floats")
    return stored


def widened(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return stored tensors as they are used: floats in 32 bits."""
    return {key: value.float() if value.dtype == torch.float16 else value for key, value in state.items()}
