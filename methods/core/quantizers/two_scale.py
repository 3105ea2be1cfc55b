"""Two uniform ranges in one code: a fine step for small values, a coarse one for large ones (TSPTQ-ViT, MPTQ-ViT).

One of the b bits says which range a code is of. The coarse step is 2^m times the fine one, so that a shift of m bits
brings both on one scale (TSPTQ-ViT, arXiv 2305.12901, whose equations are not public: this is our reading).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, on_grid

Regions = Literal["magnitude", "sign"]
"""What the fine range is for: small values on either side of 0, or the negative ones."""


class TwoScale(Quantizer):
    """s 2^-m (k - fine_zero) up to the end of the fine range, s (k - zero) above, with k = 0 .. 2^(b-1) - 1.

    `scale` s, `zero` and `fine_zero` are numbers (one grid per tensor). A value between the end of the fine range and
    the next coarse value goes to the nearer one. With m = 0 and equal zeros it is a plain grid of b - 1 bits.
    """

    scale: Tensor
    zero: Tensor
    fine_zero: Tensor
    fine_end: Tensor
    """The largest value of the fine range."""
    border: Tensor
    """From where on the next coarse value is nearer; infinity where there is none."""

    def __init__(self, bits: int, scale: Tensor, shift: int, zero: Tensor, fine_zero: Tensor) -> None:
        super().__init__(bits)
        self.shift, self.steps = shift, 2 ** (bits - 1) - 1
        self.register_buffer("scale", scale.detach().float().reshape(()).clamp_min(SCALE_FLOOR))
        self.register_buffer("zero", zero.detach().float().reshape(()))
        self.register_buffer("fine_zero", fine_zero.detach().float().reshape(()))
        self.register_buffer("fine_end", self._fine()[-1].clone())
        coarse = self._coarse()
        above = coarse.masked_fill(coarse <= self.fine_end, torch.inf).amin()
        self.register_buffer("border", (above + self.fine_end) / 2)

    @property
    def granularity(self) -> str:
        """Name what shares one grid: the tensor."""
        return "tensor"

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` on the grid; straight-through gradient inside the range."""
        with torch.no_grad():
            fine = on_grid(x, self._fine_scale(), -self.fine_zero, self.steps - self.fine_zero)
            coarse = on_grid(x, self.scale, -self.zero, self.steps - self.zero)
            values = fine.where(x <= self.border, coarse)
        if not x.requires_grad:
            return values
        grid = self.grid()[0]
        inside = x.clamp(grid[0].item(), grid[-1].item())
        return values + (inside - inside.detach())

    def grid(self) -> Tensor:
        """Return every value that can come out, ascending, shape (1, levels)."""
        coarse = self._coarse()
        values: Tensor = torch.cat([self._fine(), coarse[coarse > self.fine_end]]).unique()
        return values[None]

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (1, values)."""
        return x.reshape(1, -1)

    def extra_repr(self) -> str:
        """Describe the grid in a printed model."""
        return f"bits={self.bits}, scale={self.scale.item():.3g}, shift={self.shift}"

    def _fine_scale(self) -> Tensor:
        return self.scale * 2.0**-self.shift

    def _fine(self) -> Tensor:
        return (self._codes() - self.fine_zero) * self._fine_scale()

    def _coarse(self) -> Tensor:
        return (self._codes() - self.zero) * self.scale

    def _codes(self) -> Tensor:
        return torch.arange(self.steps + 1, device=self.scale.device)


def two_scale(low: Tensor, high: Tensor, bits: int, shift: int, *, regions: Regions = "magnitude") -> TwoScale:
    """Return the quantizer that covers [low, high], numbers that are first extended to hold 0.

    "magnitude": either range has its own zero point. "sign": the fine range ends at 0, the coarse one begins there.
    """
    low, high, steps = low.clamp_max(0).reshape(()), high.clamp_min(0).reshape(()), 2 ** (bits - 1) - 1
    if regions == "sign":
        zero = torch.zeros_like(high)
        return TwoScale(bits, high / steps, shift, zero, zero + steps)
    scale = ((high - low) / steps).clamp_min(SCALE_FLOOR)
    zero, fine_zero = ((-low / step).round().clamp(0, steps) for step in (scale, scale * 2.0**-shift))
    return TwoScale(bits, scale, shift, zero, fine_zero)
