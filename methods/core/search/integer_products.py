"""Products of quantised tensors by their integer codes: exact, and several times faster than in float32.

A symmetric grid's values are codes of at most 8 bits times a scale, so the product of a layer's two sides is a product
of small integers times a product of scales. Processors that multiply bytes (VNNI) do that at four times the rate of
floats and more (docs/performance.md). The result is that of the float product without its rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.quantizers.twin_uniform import TwinGelu
from vitptq.methods.core.quantizers.uniform import Uniform

BYTE_BITS = 8


@dataclass(frozen=True)
class Codes:
    """A tensor, or K of them stacked, as integer codes times a scale."""

    values: Tensor
    """int8, the shape of the tensor, behind an axis of K (or 1) where they are stacked."""
    scale: Tensor
    """One number, or one for each index of the first axis of the tensor; behind an axis of K (or 1) likewise."""


@cache
def multiplies_bytes(device: torch.device) -> bool:
    """Tell whether integer products are fast on a device."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and supported is not None and supported()


def codes_of(x: Tensor, quantizer: Quantizer | None) -> tuple[Codes, ...]:
    """Return terms whose sum is `x`, which `quantizer` put out; none where it has no such form."""
    if isinstance(quantizer, TwinGelu) and quantizer.bits <= BYTE_BITS:
        above, below = x.clamp_min(0), x.clamp_max(0)
        return coded(above, quantizer.scale), coded(below, quantizer.negative_scale)
    if not isinstance(quantizer, Uniform) or quantizer.bits > BYTE_BITS or quantizer.axis not in (None, 0):
        return ()
    if quantizer.low == 0 or quantizer.zero_point.any():
        return ()
    return (coded(x, quantizer.scale.reshape(-1, *[1] * (x.ndim - 1)), quantizer.scale),)


def coded(x: Tensor, scale: Tensor, kept: Tensor | None = None) -> Codes:
    """Return values on a grid as codes; `scale` broadcasts against them, `kept` is its shape in the result."""
    return Codes((x / scale).round_().to(torch.int8), (scale if kept is None else kept).reshape(-1))


def stacked(parts: Sequence[Codes]) -> Codes:
    """Return stacks of codes as one."""
    if len(parts) == 1:
        return parts[0]
    return Codes(torch.cat([part.values for part in parts]), torch.cat([part.scale for part in parts]))


def products_of_weights(weights: Codes, x: Codes) -> Tensor:
    """Return X W^T, (r, K, C), of weights (K, C, d) and rows (r, d)."""
    codes: Tensor = torch._int_mm(x.values, weights.values.flatten(0, 1).T)
    codes = codes.unflatten(1, weights.values.shape[:2])
    return codes.float().mul_(weights.scale * x.scale)


def products_of_inputs(weight: Codes, x: Codes) -> Tensor:
    """Return X W^T, (K, r, C), of a weight (C, d) and rows (K, r, d)."""
    codes: Tensor = torch._int_mm(x.values.flatten(0, 1), weight.values.T)
    codes = codes.unflatten(0, x.values.shape[:2])
    return codes.float().mul_(x.scale[:, None] * weight.scale)
