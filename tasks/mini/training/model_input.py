"""Images in memory as the embedded models read them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from vitptq.tasks.mini.data.material import Bytes
from vitptq.tasks.mini.models.classifiers import MEAN, STD


def model_input(images: Bytes, device: torch.device) -> Tensor:
    """Return images (N, H, W, 3) as the models' transforms and data preprocessors would: float32 (N, 3, H, W)."""
    pixels = torch.from_numpy(images)
    if device.type == "cuda":
        pixels = pixels.pin_memory()
    return normalised(pixels.to(device, non_blocking=True))


def normalised(pixels: Tensor) -> Tensor:
    """Return pixels (N, H, W, 3) of 0 to 255 as the models' input (N, 3, H, W), on the same device."""
    mean, std = _statistics(pixels.device)
    return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std).contiguous()


@cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return mean, std
