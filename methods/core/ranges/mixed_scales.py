"""Factors per channel between what the activations and what the weights would like, mixed by an exponent.

UQ-ViT (jiujiuwei/UQ-ViT at 3d7d4bb2); with the exponent 0, RepQ-ViT's (arXiv 2212.08254, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.uniform import on_grid
from vitptq.methods.core.ranges.estimation import upper_percentiles
from vitptq.methods.core.ranges.percentile_error import least_error_affine

FLOOR = 1e-8
"""Least factor: a channel or column of zeros would otherwise divide by 0."""
MANY_BITS = 6
"""From so many bits on, the largest values of channels are taken as they are, not rounded."""


def fold_factors(
    channels: Tensor, weight: Tensor, bits: tuple[int, int], alpha: float, fractions: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Return scale r and shift, (in,) each, with which x' = (x + shift) / r has channels of like range and zero point.

    `channels` is x as (in, positions), `weight` (out, in), `bits` those of the activations and of the weights. With
    s and z the scales and zero points of the channels and w those of the columns, r = (s / mean s)^(1 - alpha) /
    w^alpha, and the shift is s z - r mean(s) mean(z).
    """
    scale, zero = least_error_affine(channels, bits[0], fractions)
    factors = _mixed(scale / scale.mean(), column_scales(weight, bits[1], fractions), alpha)
    return factors, scale * zero - factors * scale.mean() * zero.mean()


def divisors(
    channels: Tensor, weight: Tensor, bits: tuple[int, int], alpha: float, fractions: tuple[float, ...]
) -> Tensor:
    """Return r, (in,), never below 1, which takes large channels in: arguments as those of `fold_factors`.

    a is the largest absolute value of each channel, rounded where the bits are few, and not below the mean over
    channels: r = max(1, (a / mean a)^(1 - alpha) / w^alpha).
    """
    if bits[0] < MANY_BITS:
        scale, zero = (each[:, None] for each in least_error_affine(channels, bits[0], fractions))
        channels = on_grid(channels, scale, -zero, 2 ** bits[0] - 1 - zero)
    largest = channels.abs().amax(dim=1)
    relative = (largest / largest.mean().clamp_min(FLOOR)).clamp_min(1)
    return _mixed(relative, column_scales(weight, bits[1], fractions), alpha).clamp_min(1)


def column_scales(weight: Tensor, bits: int, fractions: Sequence[float]) -> Tensor:
    """Return the scale of each column's symmetric grid of least squared error, over the mean of all, (in,)."""
    columns = weight.T
    best: tuple[Tensor, Tensor] | None = None
    for top in upper_percentiles(columns.abs(), fractions):
        scale = (top / (2 ** (bits - 1) - 1)).clamp_min(FLOOR)
        error = on_grid(columns, scale[:, None], -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).sub_(columns).square_().sum(1)
        if best is None:
            best = error, scale
        else:
            best = error.minimum(best[0]), torch.where(error < best[0], scale, best[1])
    assert best is not None
    return best[1] / best[1].mean()


def _mixed(activations: Tensor, weights: Tensor, alpha: float) -> Tensor:
    return activations.clamp_min(FLOOR).pow(1 - alpha) / weights.clamp_min(FLOOR).pow(alpha)
