"""TanQ quantizers (TanQ): our readings of DopQ-ViT (Yang et al., arXiv 2408.03291), whose formula is not public."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.lookup_table import LookupTable

Reading = Literal["A", "C"]


class TanQ(LookupTable):
    """With u = x / S in 0 to 1 and L = 2^bits - 1. For theta towards 0, both readings become the uniform grid.

    A, fine at both ends, k = tan(theta / 2), theta below pi:
    q = round(L / 2 (tan(theta (u - 1/2)) / k + 1)), x^ = S (1/2 + atan(k (2 q / L - 1)) / theta).

    C, fine near 0, k = tan(theta), theta below pi / 2: q = round(L atan(k u) / theta), x^ = S tan(theta q / L) / k.
    """

    def __init__(self, bits: int, ceiling: float, theta: float, reading: Reading = "A") -> None:
        codes = torch.arange(2**bits, dtype=torch.float64) / (2**bits - 1)
        k = math.tan(theta / 2 if reading == "A" else theta)
        unit = 0.5 + (k * (2 * codes - 1)).atan() / theta if reading == "A" else (theta * codes).tan() / k
        unit[0], unit[-1] = 0.0, 1.0  # exact, where the tangent is rounded
        super().__init__(bits, unit * ceiling)
        self.ceiling, self.theta, self.reading, self.k = ceiling, theta, reading, k

    def place(self, x: Tensor) -> Tensor:
        """Return the code before rounding; the tangent would wrap around outside 0 to S, so it ends there."""
        unit = x / self.ceiling
        inner = unit.clamp(0, 1)
        levels = len(self.table) - 1
        if self.reading == "A":
            curve = (self._tangent(inner) / self.k + 1) / 2
        else:
            curve = (self.k * inner).atan_() / self.theta
        # outside, a whole code beyond: so that rounding does not bring back what was clipped
        return curve * levels + (unit - inner).sign()

    def slope(self, x: Tensor, out: Tensor) -> Tensor:
        """Return encoder'(x) / encoder'(x^), which is what the two slopes amount to."""
        u, v = (x / self.ceiling).clamp(0, 1), out / self.ceiling
        if self.reading == "A":
            return (1 + self._tangent(u).square()) / (1 + self._tangent(v).square())
        return (1 + (self.k * v).square()) / (1 + (self.k * u).square())

    def _tangent(self, unit: Tensor) -> Tensor:
        return (self.theta * (unit - 0.5)).tan()

    def extra_repr(self) -> str:
        """Describe the grid in a printed model."""
        return f"bits={self.bits}, reading={self.reading}, theta={self.theta:g}, ceiling={self.ceiling:g}"
