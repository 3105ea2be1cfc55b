"""What the trainings of classifiers, detectors and segmenters share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

_MOST_WORKERS = 4
_NOT_DECAYED = ("pos_embed", "bias_table", "attention_biases")


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return the optimiser's groups: norms, biases and position tables are not decayed."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        table = any(part in name for part in _NOT_DECAYED)
        (decayed if parameter.ndim > 1 and not table else plain).append(parameter)
    return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half written."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def checkpoint_file(name: str, work: Path) -> Path:
    """Return where a training keeps what it can go on from."""
    return work / f"{name}.checkpoint.pt"


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.replace(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content, its tensors on the CPU."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def refuse_other_recipe(path: Path, saved: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Raise ValueError where a checkpoint belongs to another recipe."""
    if saved != recipe:
        raise ValueError(f"{path} belongs to the recipe {saved}, not {recipe}; use another --work folder")


def choose_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def choose_workers(wanted: int, device: torch.device) -> int:
    """Return the number of processes that make images: as wanted; for -1, none beside a CPU and a few beside a GPU."""
    if wanted >= 0:
        return wanted
    return 0 if device.type == "cpu" else min(_MOST_WORKERS, os.cpu_count() or 1)


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
