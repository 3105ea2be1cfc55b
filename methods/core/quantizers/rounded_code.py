"""A uniform grid that rounds behind the zero point, as FQ-ViT's released code does."""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.uniform import Uniform


class RoundedCode(Uniform):
    """Uniform affine grid with `x^ = (clamp(round(x/s + z), low, high) - z) * s`.

    The grid is that of `Uniform`; a value half-way between two codes goes to the even code here, there to the even
    quotient.
    """

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` on the grid; straight-through gradient."""
        with torch.no_grad():
            scale, zero = self._like(x, self.scale), self._like(x, self.zero_point)
            values = ((x / scale + zero).round().clamp(self.low, self.high) - zero) * scale
        return values if not x.requires_grad else values + (x - x.detach())
