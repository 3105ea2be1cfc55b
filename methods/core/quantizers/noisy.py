"""A fixed vector added in front of a uniform grid (NoisyQuant, arXiv 2211.16056).

What it adds is taken away behind the product, in the bias of the layer that reads the grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.quantizers.uniform import Uniform


class Noisy(Quantizer):
    """Q(x + n), Q being a grid per tensor and `noise` n a vector over the channels, the last axis of x."""

    noise: Tensor

    def __init__(self, base: Uniform, noise: Tensor) -> None:
        super().__init__(base.bits)
        self.base = base
        self.register_buffer("noise", noise.detach().clone())

    @property
    def granularity(self) -> str:
        """Name what shares one grid: what shares one of the base."""
        return self.base.granularity

    def quantise(self, x: Tensor) -> Tensor:
        """Return x + n on the grid; straight-through gradient inside the range."""
        return self.base.quantise(x + self.noise)

    def grid(self) -> Tensor:
        """Return the values of the base's grid, shape (groups, levels)."""
        return self.base.grid()

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as the base does."""
        return self.base.groups(x)


def symmetric(bits: int, scale: Tensor) -> Uniform:
    """Return the grid with codes -2^(b-1) .. 2^(b-1) - 1 and zero point 0; `scale` is a number."""
    return Uniform(bits, scale, torch.zeros_like(scale), signed=True)
