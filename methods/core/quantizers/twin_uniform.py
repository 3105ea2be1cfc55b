"""Twin uniform quantizers of PTQ4ViT (arXiv 2111.12293, section 3.2): two ranges in one code, for odd distributions."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR

TwinForm = Literal["exclusive", "sum"]

GELU_MINIMUM = 0.16997124
"""How far GELU goes below 0."""


class TwinSoftmax(Quantizer):
    """Two unsigned ranges for values in [0, 1]: steps of s / q up to the split s = 2^-exponent, of 1 / q above.

    q = 2^(b-1) - 1; one bit of the code says which range. "exclusive": T(x) = (s / q) clamp(round(x q / s), 0, q) where
    x <= s, else clamp(round(x q), 0, q) / q. "sum" is the released code, which adds both ranges: x + s and a rounding
    error.
    """

    low: Tensor
    high: Tensor

    def __init__(self, bits: int, exponent: int, *, form: TwinForm = "exclusive") -> None:
        super().__init__(bits)
        self.exponent, self.form = exponent, form
        self.split = 2.0**-exponent
        self.steps = 2 ** (bits - 1) - 1
        codes = torch.arange(self.steps + 1, dtype=torch.float64)
        at_split = float(torch.tensor(self.split * self.steps).round())
        low = codes * (self.split / self.steps)
        high = codes / self.steps
        if form == "sum":
            low, high = low + at_split / self.steps, high + self.split
        # tables, so that a value of the grid is the same number wherever it comes from
        self.register_buffer("low", low.float())
        self.register_buffer("high", high.float())

    @property
    def granularity(self) -> str:
        """Name what shares one grid: the tensor."""
        return "tensor"

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` on the grid; straight-through gradient within [0, 1]."""
        with torch.no_grad():
            fine = (x / (self.split / self.steps)).round().clamp(0, self.steps).long()
            coarse = (x * self.steps).round().clamp(0, self.steps).long()
            low, high = self.low[fine], self.high[coarse]
            values = low.where(x <= self.split, high)
        if not x.requires_grad:
            return values
        inside = x.clamp(0, 1)
        return values + (inside - inside.detach())

    def grid(self) -> Tensor:
        """Return every value that can come out, ascending, shape (1, levels)."""
        first = int(torch.tensor(self.split * self.steps).round())  # above the split, smaller codes do not occur
        values: Tensor = torch.cat([self.low, self.high[first:]]).unique()
        return values[None]

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (1, values)."""
        return x.reshape(1, -1)

    def extra_repr(self) -> str:
        """Describe the grid in a printed model."""
        return f"bits={self.bits}, split=2^-{self.exponent}, form={self.form}"


class TwinGelu(Quantizer):
    """A step for the values above 0 and a fixed one for those below, which GELU bounds.

    T(x) = D clamp(round(x / D), 0, 2^(b-1) - 1) + Dn clamp(round(x / Dn), -2^(b-1), 0), with Dn = 0.16997124 / 2^(b-1).
    """

    scale: Tensor
    negative_scale: Tensor

    def __init__(self, bits: int, scale: Tensor) -> None:
        super().__init__(bits)
        self.register_buffer("scale", scale.detach().float().reshape(()).clamp_min(SCALE_FLOOR))
        self.register_buffer("negative_scale", torch.tensor(negative_step(bits), device=scale.device))

    @property
    def granularity(self) -> str:
        """Name what shares one grid: the tensor."""
        return "tensor"

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` on the grid; straight-through gradient inside the range."""
        with torch.no_grad():
            values = twin_gelu(x, self.scale, self.bits)
        if not x.requires_grad:
            return values
        inside = x.clamp_min(-GELU_MINIMUM).clamp_max(self.scale * (2 ** (self.bits - 1) - 1))
        return values + (inside - inside.detach())

    def grid(self) -> Tensor:
        """Return every representable value, ascending, shape (1, levels)."""
        half = 2 ** (self.bits - 1)
        codes = torch.arange(half, device=self.scale.device)
        return torch.cat([(codes - half) * self.negative_scale, codes * self.scale])[None]

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (1, values)."""
        return x.reshape(1, -1)

    def extra_repr(self) -> str:
        """Describe the grid in a printed model."""
        return f"bits={self.bits}, scale={self.scale.item():.3g}, negative_scale={self.negative_scale.item():.3g}"


def negative_step(bits: int) -> float:
    """Return the step below 0: GELU's minimum is the last negative code."""
    return GELU_MINIMUM * 2.0 ** (1 - bits)


@cache
def _negative(bits: int, device: torch.device) -> Tensor:
    """Return the step below 0 on a device: a copy for each call would make a GPU wait."""
    return torch.tensor(negative_step(bits), device=device)


def twin_gelu(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Return `x` on the grids with the positive steps `scale`, which broadcasts against `x`."""
    half = 2 ** (bits - 1)
    negative = _negative(bits, x.device)
    above = (x / scale).round().clamp(0, half - 1) * scale
    below = (x / negative).round().clamp(-half, 0) * negative
    return above + below
