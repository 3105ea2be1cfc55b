"""A uniform grid for every token, found while the model runs: what each token's own values span."""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR


class DynamicToken(Quantizer):
    """Asymmetric codes between the least and the largest value of each token (and 0), times `clip`; no gradient.

    A token is a slice along the last axis. `grid` is that of the last tensor that was quantised.
    """

    def __init__(self, bits: int, clip: float = 1.0) -> None:
        super().__init__(bits)
        self.clip = clip
        self._last: tuple[Tensor, Tensor] | None = None

    @property
    def granularity(self) -> str:
        """Name what shares one scale."""
        return "token"

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` (..., channels) on the grids of its tokens."""
        low, high = x.detach().aminmax(dim=-1, keepdim=True)
        low, high = self.clip * low.clamp_max(0), self.clip * high.clamp_min(0)
        highest = 2**self.bits - 1
        scale = ((high - low) / highest).clamp_min(SCALE_FLOOR)
        zero = (-low / scale).round().clamp(0, highest)
        self._last = scale.reshape(-1, 1), zero.reshape(-1, 1)
        codes = ((x / scale).round() + zero).clamp(0, highest)
        values: Tensor = (codes - zero) * scale
        return values

    def grid(self) -> Tensor:
        """Return every value that the last tensor's tokens could take, ascending, shape (tokens, levels)."""
        if self._last is None:
            raise RuntimeError("no tensor was quantised yet, so no token has a grid")
        scale, zero = self._last
        return (torch.arange(2**self.bits, device=scale.device) - zero) * scale

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (tokens, values)."""
        return x.reshape(-1, x.shape[-1])
