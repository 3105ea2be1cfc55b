"""Digits that are written a little differently every time."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from vitptq.tasks.mini.data.material import Bytes


def warp(images: Bytes, generator: np.random.Generator) -> Bytes:
    """Return digits (N, 28, 28) rotated by up to 15 degrees and sheared by up to 0.2."""
    # 3,400 digits are few; without this the ViT learns them by heart.
    angle, shear = (generator.random((2, len(images))) * 2 - 1) * np.array([[math.pi / 12], [0.2]])
    cosine, sine, none = np.cos(angle), np.sin(angle), np.zeros(len(images))
    matrix = np.stack([cosine, shear * cosine - sine, none, sine, shear * sine + cosine, none], axis=1).reshape(
        -1, 2, 3
    )
    source = torch.from_numpy(images).float().unsqueeze(1)
    grid = functional.affine_grid(torch.from_numpy(matrix).float(), list(source.shape), align_corners=False)
    warped = functional.grid_sample(source, grid, align_corners=False)
    return warped.squeeze(1).round().clamp(0, 255).byte().numpy()
