"""Logarithmic quantizers: powers of 2 or of its root below a ceiling."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.quantizers.lookup_table import looked_up
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR

ZeroCode = Literal["last", "extra"]


class Logarithmic(Quantizer):
    """Grid of S * 2^(-k / steps_per_octave) for values in [0, S], per tensor.

    `zero_code` decides what very small values become. "last": the last code decodes to 0, strictly 2^b values. "extra":
    all 2^b codes are non-zero and 0 is one more value, as the official codes of FQ-ViT and RepQ-ViT do it.
    """

    ceiling: Tensor
    table: Tensor

    def __init__(self, bits: int, ceiling: Tensor, *, steps_per_octave: int, zero_code: ZeroCode = "last") -> None:
        super().__init__(bits)
        self.steps_per_octave = steps_per_octave
        self.zero_code = zero_code
        powers = 2**bits - (1 if zero_code == "last" else 0)
        self.register_buffer("ceiling", ceiling.detach().float().reshape(()).clamp_min(SCALE_FLOOR))
        exponents = -torch.arange(powers, device=ceiling.device, dtype=torch.float64) / steps_per_octave
        # a table, because exp2 of the same code may differ in the last bit between vector and scalar lanes
        values = torch.cat([self.ceiling.double() * exponents.exp2(), exponents.new_zeros(1)])
        self.register_buffer("table", values.float())

    @property
    def granularity(self) -> str:
        """Name what shares one grid: the tensor."""
        return "tensor"

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` on the grid; straight-through gradient up to the ceiling."""
        with torch.no_grad():
            values = looked_up(self.table, self._places(x)).to(x.dtype)
        if not x.requires_grad:
            return values
        return values + (x.clamp_max(self.ceiling) - x.clamp_max(self.ceiling).detach())

    def _places(self, x: Tensor) -> Tensor:
        """Return the codes before clipping: infinite for what is not above 0, so that the last one, 0, is its code."""
        return (x / self.ceiling).clamp_min_(0).log2_().mul_(-self.steps_per_octave).round_()

    def grid(self) -> Tensor:
        """Return every representable value, ascending, shape (1, levels)."""
        return self.table.flip(0)[None]

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (1, values)."""
        return x.reshape(1, -1)

    def extra_repr(self) -> str:
        """Describe the grid in a printed model."""
        return f"bits={self.bits}, steps_per_octave={self.steps_per_octave}, zero_code={self.zero_code}"


class Log2(Logarithmic):
    """Powers of two below the ceiling (FQ-ViT, arXiv 2111.13824)."""

    def __init__(self, bits: int, ceiling: Tensor, *, zero_code: ZeroCode = "last") -> None:
        super().__init__(bits, ceiling, steps_per_octave=1, zero_code=zero_code)


class LogSqrt2(Logarithmic):
    """Powers of sqrt(2) below the ceiling (RepQ-ViT, arXiv 2212.08254)."""

    def __init__(self, bits: int, ceiling: Tensor, *, zero_code: ZeroCode = "last") -> None:
        super().__init__(bits, ceiling, steps_per_octave=2, zero_code=zero_code)
