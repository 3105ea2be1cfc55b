"""Probabilities as behind a softmax, for grids that are made for them."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(spread: float = 3.0) -> Tensor:
    logits = torch.randn(4, 2, 33, 33, generator=torch.Generator().manual_seed(1)) * spread
    return logits.softmax(-1)
