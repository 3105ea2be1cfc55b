"""Models of OpenMMLab's libraries, built from their configurations."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vitptq.bench.contracts.method import InputSpec
from vitptq.tasks.openmmlab.configs import Config
from vitptq.tasks.openmmlab.libraries import Scope, library


def build(config: Config, scope: Scope) -> nn.Module:
    """Return the float model of an OpenMMLab model config, in eval mode, with whatever weights torch gives it.

    `init_cfg` and `pretrained` are dropped: nothing is downloaded. `checkpoints.load_checkpoint` loads the weights.
    """
    with library(scope) as registry, warnings.catch_warnings():
        # mmseg's loss advises to set an argument of training
        warnings.filterwarnings("ignore", message=".*avg_non_ignore")
        model: nn.Module = registry.MODELS.build(_model_config(config))
    model.eval()  # in a line of its own: the libraries' backbones return nothing from it
    return model


def preprocessor(config: Config, scope: Scope, device: torch.device) -> Any:
    """Return the data preprocessor of a model config alone (normalises, pads, stacks), a module on the device."""
    with library(scope) as registry:
        found = registry.MODELS.build(_model_config(config["data_preprocessor"]))
    return found.to(device).eval()


def input_spec(config: Config, size: tuple[int, int]) -> InputSpec:
    """Return the model's input: `size` is the usual (height, width); mean and std are on the scale of 0 to 1, RGB."""
    normalise = config["data_preprocessor"]
    mean = tuple(float(value) / 255 for value in normalise["mean"])
    std = tuple(float(value) / 255 for value in normalise["std"])
    return InputSpec((3, *size), (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def _model_config(config: Config) -> Any:
    """Return a copy as the libraries want it, without what would download or initialise weights."""
    from mmengine.config import ConfigDict

    return ConfigDict(_without_initialisation(config))


def _without_initialisation(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: entry for key, entry in value.items() if key not in ("init_cfg", "pretrained")}
        return {key: _without_initialisation(entry) for key, entry in kept.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_initialisation(entry) for entry in value)
    return value
