"""Ranges of least |error|^2.4, with zero points of their own, as QDrop's released code starts (arXiv 2203.05740)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, on_grid
from vitptq.methods.core.ranges.estimation import Range, asymmetric_parameters, min_max

POWER = 2.4
WIDTHS = 100
"""Widths that are tried: so many hundredths of the values' own."""
STEP = 2**22
"""Values of a step's largest tensor."""


def least_power_error(x: Tensor, bits: int) -> Range:
    """Return the range of least mean |error|^2.4 on each group of `x` (groups, values)."""
    return least_power_error_within(x, *min_max(x), bits)


def least_power_error_within(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Range:
    """Return it for values that stand for a wider range, `low` to `high`, (groups,) each.

    A range is a hundredth of the width, two hundredths, ... up to all of it, with each zero point from the first code
    to the last; where no value of any group is below (or above) 0, it starts (or ends) there. The first of equals wins.
    """
    rows = max(1, STEP // (2**bits * x.shape[1]))
    two_sided = bool(low.amin() < 0 < high.amax())
    parts = zip(x.split(rows), low.split(rows), high.split(rows), strict=True)
    found = [(_any_zero_point if two_sided else _one_sided)(*part, bits) for part in parts]
    lows, highs = zip(*found, strict=True)
    return torch.cat(lows), torch.cat(highs)


def _any_zero_point(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Range:
    levels = 2**bits - 1
    zeros = torch.arange(levels + 1, dtype=x.dtype, device=x.device)
    width = high.clamp_min(0) - low.clamp_max(0)
    least = _Least(x)
    for hundredths in range(1, WIDTHS + 1):
        scale = (width / WIDTHS * hundredths / levels).clamp_min(SCALE_FLOOR)
        least.see(-zeros * scale[:, None], (levels - zeros) * scale[:, None], scale[:, None], zeros, levels)
    return least.low, least.high


def _one_sided(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Range:
    levels = 2**bits - 1
    width = torch.maximum(low.abs(), high.abs())
    least = _Least(x)
    for hundredths in range(1, WIDTHS + 1):
        end = (width / WIDTHS * hundredths)[:, None]
        lows, highs = (torch.zeros_like(end), end) if high.amax() > 0 else (-end, torch.zeros_like(end))
        scale, zero = asymmetric_parameters(lows, highs, bits)
        least.see(lows, highs, scale, zero, levels)
    return least.low, least.high


class _Least:
    """The range of least error so far, per group."""

    def __init__(self, x: Tensor) -> None:
        self.x = x[:, None]  # (G, 1, values)
        self.error = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        self.low, self.high = torch.zeros_like(self.error), torch.zeros_like(self.error)

    def see(self, lows: Tensor, highs: Tensor, scale: Tensor, zero: Tensor, levels: int) -> None:
        """Try some ranges, (groups, K), on the grids of `scale` and `zero`, which broadcast to that."""
        first, last = (-zero).expand_as(lows)[..., None], (levels - zero).expand_as(lows)[..., None]
        apart = on_grid(self.x.expand(-1, lows.shape[1], -1), scale[..., None], first, last) - self.x
        error, place = apart.abs_().pow_(POWER).mean(-1).min(dim=1)
        better = error < self.error
        self.low = torch.where(better, lows.gather(1, place[:, None])[:, 0], self.low)
        self.high = torch.where(better, highs.gather(1, place[:, None])[:, 0], self.high)
        self.error = torch.where(better, error, self.error)
