"""The min-max range shrunk to the least squared error (OMSE)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.methods.core.ranges.estimation import Range, least_error, min_max

CANDIDATES = 90


def shrunk(low: Tensor, high: Tensor) -> Range:
    """Return the candidates: both ends times 1, 0.99, ..., 0.11; shapes (groups,) to (groups, 90)."""
    factors = 1 - 0.01 * torch.arange(CANDIDATES, device=low.device)
    return low[:, None] * factors, high[:, None] * factors


def least_error_range(x: Tensor, bits: int, *, symmetric: bool = False) -> Range:
    """Return the shrunk min-max range with the least squared error on `x` (groups, values)."""
    return least_error(x, *shrunk(*min_max(x)), bits, symmetric=symmetric)
