"""Shift-uniform-log2 quantizer (SULQ) of I&S-ViT (Zhong et al., arXiv 2311.10126, equations 13 and 14)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.lookup_table import LookupTable

Form = Literal["paper", "code"]


class ShiftUniformLog2(LookupTable):
    """Shift x by eta, take y = -log2(x + eta), quantise y uniformly; decode to powers of two, less eta.

    x^ = 2^round(-(q step + start)) - eta for the codes q = 0 .. count - 1. The exponent is rounded, so that decoding is
    a shift: several codes may share a value.
    """

    def __init__(self, bits: int, eta: float, step: float, start: float, count: int) -> None:
        """`start` is the value of y at code 0, `step` the distance of codes in y."""
        exponents = (-(torch.arange(count, dtype=torch.float64) * step + start)).round()
        super().__init__(bits, exponents.exp2() - eta)
        self.eta, self.step, self.start = eta, step, start

    def place(self, x: Tensor) -> Tensor:
        """Return (y - start) / step; what is not above -eta lies behind the last code."""
        return ((x + self.eta).clamp_min(0).log2_() + self.start).mul_(-1 / self.step)

    def slope(self, x: Tensor, out: Tensor) -> Tensor:
        """Return (x^ + eta) / (x + eta): straight through both roundings."""
        return (out + self.eta) / (x + self.eta).clamp_min(torch.finfo(x.dtype).tiny)

    def extra_repr(self) -> str:
        """Describe the grid in a printed model."""
        return f"bits={self.bits}, eta={self.eta:g}, step={self.step:.3g}, levels={self.grid().shape[1]}"


def covering(x: Tensor, bits: int, eta: float, form: Form = "paper") -> ShiftUniformLog2:
    """Return the quantizer that covers the range of y = -log2(x + eta) over the values `x`.

    "paper": 2^bits codes, an integer zero point. "code": what the released code computes, 2^bits + 1 codes that start
    at the least y itself.
    """
    low, high = shifted_range(x, eta)
    steps = 2**bits - (1 if form == "paper" else 0)
    step = max((high - low) / steps, 1e-8)
    start = -round(-low / step) * step if form == "paper" else low
    return ShiftUniformLog2(bits, eta, step, start, steps + 1).to(x.device)


def shifted_range(x: Tensor, eta: float) -> tuple[float, float]:
    """Return the least and the largest y = -log2(x + eta)."""
    least, largest = x.aminmax()
    return -(largest.double() + eta).log2().item(), -(least.double() + eta).log2().item()
