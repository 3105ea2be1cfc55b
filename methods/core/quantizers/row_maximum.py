"""Attention probabilities with the largest value of each row in float, the others on a grid of their row's own.

UQ-ViT's DeMax (jiujiuwei/UQ-ViT at 3d7d4bb2).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer


class RowMaximum(Quantizer):
    """Codes from 0 to the second largest value of each row (a slice along the last axis); the largest stays as it is.

    For values of 0 and above; no gradient. `grid` is that of the last tensor that was quantised.
    """

    float_values: ClassVar[int] = 1

    def __init__(self, bits: int) -> None:
        super().__init__(bits)
        self._last: tuple[Tensor, Tensor] | None = None

    @property
    def granularity(self) -> str:
        """Name what shares one scale."""
        return "token"

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` (..., columns) on the grids of its rows."""
        top, place = x.detach().max(dim=-1, keepdim=True)
        rest = x.detach().scatter(-1, place, 0)
        highest = 2**self.bits - 1
        # a row with one value above 0 would divide by 0
        scale = (rest.amax(dim=-1, keepdim=True) / highest).clamp_min(torch.finfo(x.dtype).tiny)
        self._last = scale.reshape(-1, 1), top.reshape(-1, 1)
        values: Tensor = ((rest / scale).round().clamp(0, highest) * scale).scatter(-1, place, top)
        return values

    def grid(self) -> Tensor:
        """Return every value that the last tensor's rows could take, its float one among them, (rows, levels + 1)."""
        if self._last is None:
            raise RuntimeError("no tensor was quantised yet, so no row has a grid")
        scale, top = self._last
        steps = torch.arange(2**self.bits, device=scale.device, dtype=scale.dtype)
        return torch.cat([steps * scale, top], dim=1).sort(dim=1).values

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (rows, values)."""
        return x.reshape(-1, x.shape[-1])
