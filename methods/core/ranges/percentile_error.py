"""Of a few percentile ranges the one with the least squared error (RepQ-ViT, arXiv 2212.08254)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.log import LogSqrt2, ZeroCode
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, on_grid
from vitptq.methods.core.ranges.estimation import percentiles, upper_percentiles

CONSTANT = 1e-4
"""A channel whose range is smaller than this share of its values is taken as constant."""


def least_error_affine(rows: Tensor, bits: int, fractions: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Return, per row of (groups, values), scale and zero point of the percentile range with the least squared error.

    s = (hi - lo) / L and z = round(-lo / s); z is not clamped, so a one-sided channel has it outside the code range.
    """
    levels = 2**bits - 1
    best: tuple[Tensor, Tensor, Tensor] | None = None
    for low, high in percentiles(rows, fractions):
        scale, zero = _covering(low, high, levels)
        lowest = -zero[:, None]
        error = on_grid(rows, scale[:, None], lowest, levels + lowest).sub_(rows).square_().mean(dim=1)
        if best is None:
            best = error, scale, zero
        else:
            better = error < best[0]
            best = (error.minimum(best[0]), scale.where(better, best[1]), zero.where(better, best[2]))
    assert best is not None
    return best[1], best[2]


def _covering(low: Tensor, high: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Return scale and zero point for the range; a constant channel gets a grid that holds 0 and its value.

    The paper's form would divide by a floor there, and the zero point of one such channel, in the millions, would
    spoil the mean over all channels.
    """
    constant = high - low < CONSTANT * torch.maximum(low.abs(), high.abs()).clamp_min(SCALE_FLOOR)
    scale = torch.where(constant, torch.maximum(low.abs(), high.abs()), high - low) / levels
    scale = scale.clamp_min(SCALE_FLOOR)
    zero = torch.where(constant, torch.where(high < 0, float(levels), 0.0), (-low / scale).round())
    return scale, zero


def least_error_log_sqrt2(x: Tensor, bits: int, fractions: tuple[float, ...], zero_code: ZeroCode) -> LogSqrt2:
    """Return the log-sqrt2 quantizer whose ceiling, of the given percentiles of `x`, has the least squared error."""
    candidates = [LogSqrt2(bits, top, zero_code=zero_code) for top in upper_percentiles(x.reshape(1, -1), fractions)]
    errors = torch.stack([candidate(x).sub_(x).square_().mean() for candidate in candidates])
    return candidates[int(errors.argmin())]
