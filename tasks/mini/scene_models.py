"""Detectors and the segmenter of the embedded edition, built by mmdet and mmseg, with weights trained here.

The weights are stored as 16-bit floats to keep the repository small and are used as 32-bit floats. The reference
scores are those of the stored weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vitptq.tasks.mini.models import WEIGHTS, WeightsError
from vitptq.tasks.mini.scene_configs import Config, cascade_mask_rcnn_swin, mask_rcnn_swin, upernet_swin
from vitptq.tasks.openmmlab.runtime import Scope, build

Task = Literal["coco", "ade20k"]
_SCOPES: dict[Task, Scope] = {"coco": "mmdet", "ade20k": "mmseg"}


@dataclass(frozen=True, slots=True)
class SceneModel:
    """One model: its task, its OpenMMLab configuration and its weights."""

    name: str
    task: Task
    family: str
    config: Callable[[], Config]

    @property
    def scope(self) -> Scope:
        """Return the library that builds the model."""
        return _SCOPES[self.task]

    @property
    def weights(self) -> Path:
        """Return the file with the trained weights."""
        return WEIGHTS / f"{self.name}.safetensors"

    @property
    def sha256(self) -> str:
        """Return the hash that the weights file must have."""
        return str(facts(self.name)["sha256"])

    @property
    def scores(self) -> dict[str, float]:
        """Return the float scores in percent on the 500 evaluation scenes, measured by the benchmark's own task."""
        return {key: float(value) for key, value in facts(self.name)["scores"].items()}


_ALL = (
    SceneModel("mini_mask_rcnn_swin", "coco", "swin", mask_rcnn_swin),
    SceneModel("mini_cascade_mask_rcnn_swin", "coco", "swin", cascade_mask_rcnn_swin),
    SceneModel("mini_upernet_swin", "ade20k", "swin", upernet_swin),
)
SCENE_MODELS: dict[str, SceneModel] = {model.name: model for model in _ALL}


def load(name: str) -> nn.Module:
    """Return the model with its trained weights, in eval mode."""
    if name not in SCENE_MODELS:
        raise KeyError(f"unknown scene model {name!r}; known: {', '.join(sorted(SCENE_MODELS))}")
    entry = SCENE_MODELS[name]
    _check(entry)
    model = build(entry.config(), entry.scope)
    model.load_state_dict(widened(load_file(entry.weights)))
    return model


def facts(name: str) -> dict[str, Any]:
    """Return what training wrote about the weights: hash, scores, recipe."""
    path = WEIGHTS / f"{name}.json"
    if not path.exists():
        raise WeightsError(f"{path} is missing; train the model with: python -m vitptq.tasks.mini.train_scenes {name}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


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


def _check(entry: SceneModel) -> None:
    hint = f"python -m vitptq.tasks.mini.train_scenes {entry.name}"
    if not entry.weights.exists():
        raise WeightsError(f"{entry.weights} is missing; train it with: {hint}")
    found = hashlib.sha256(entry.weights.read_bytes()).hexdigest()
    if found != entry.sha256:
        raise WeightsError(
            f"{entry.weights} has sha256 {found}, expected {entry.sha256}; restore the file or train again with: {hint}"
        )
