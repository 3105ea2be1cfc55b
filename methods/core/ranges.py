"""Range estimation: from values, arranged as (groups, values), to the (low, high) that a uniform grid covers.

Searches run over all candidates at once on sorted values: with prefix sums, the exact squared error of a grid costs a
few binary searches instead of a pass over the data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.core.quantizers import SCALE_FLOOR, Granularity, Uniform

Range = tuple[Tensor, Tensor]
"""Lowest and highest value to cover, each of shape (groups,)."""


def min_max(x: Tensor) -> Range:
    """Return the extreme values of each group; `x` is (groups, values)."""
    low, high = x.aminmax(dim=1)
    return low, high


def percentile(x: Tensor, fraction: float) -> Range:
    """Return the (1 - fraction) and `fraction` quantiles of each group, with linear interpolation.

    Near the ends only the few values beyond the quantile are put in order, which is many times faster than a sort.
    """
    count = x.shape[1]
    reach = count - int(fraction * (count - 1))  # the highest values down to the one below the quantile
    if reach > count // 8:
        ordered = x.sort(dim=1).values
        return sorted_quantile(ordered, 1 - fraction), sorted_quantile(ordered, fraction)
    top = x.topk(reach, dim=1).values.flip(1)
    bottom = x.topk(reach, dim=1, largest=False).values
    return _between(bottom, (1 - fraction) * (count - 1)), _between(top, fraction * (count - 1) - (count - reach))


def _between(ordered: Tensor, place: float) -> Tensor:
    """Return the value at a fractional place of ascending values along the last axis."""
    below = int(place)
    above = min(below + 1, ordered.shape[-1] - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], place - below)


def sorted_quantile(ordered: Tensor, fraction: float) -> Tensor:
    """Return a quantile of ascending values along the last axis; unlike torch.quantile, of any number of them."""
    return _between(ordered, fraction * (ordered.shape[-1] - 1))


def asymmetric_parameters(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return scale and zero point for unsigned codes: the range is first extended to hold 0 (FQ-ViT's form, extended).

    Without the extension a tensor that stays above 0 would get a clamped zero point and lose the top of its range.
    """
    low, high = low.clamp_max(0), high.clamp_min(0)
    levels = 2**bits - 1
    scale = ((high - low) / levels).clamp_min(SCALE_FLOOR)
    return scale, (-low / scale).round().clamp(0, levels)


def symmetric_parameters(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return scale and zero point 0 for signed codes (FQ-ViT divides by 127.5 at 8 bits)."""
    scale = (torch.maximum(-low, high) / ((2**bits - 1) / 2)).clamp_min(SCALE_FLOOR)
    return scale, torch.zeros_like(scale)


def uniform(
    low: Tensor,
    high: Tensor,
    bits: int,
    *,
    axis: int | None = None,
    granularity: Granularity = "tensor",
    symmetric: bool = False,
) -> Uniform:
    """Return the uniform quantizer that covers [low, high]."""
    parameters = symmetric_parameters if symmetric else asymmetric_parameters
    scale, zero = parameters(low, high, bits)
    return Uniform(bits, scale, zero, axis=axis, granularity=granularity, signed=symmetric)


class SortedValues:
    """Values sorted once, with prefix sums, so that the error of many grids is cheap.

    Memory: five times the values (the prefix sums are in float64, or the small differences would cancel).
    """

    def __init__(self, x: Tensor) -> None:
        self.ordered = x.sort(dim=1).values  # (G, n)
        wide = self.ordered.double()
        self._sum = torch.nn.functional.pad(wide.cumsum(1), (1, 0))
        self._square = torch.nn.functional.pad(wide.square_().cumsum(1), (1, 0))

    def error(self, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
        """Return the mean squared error, (G, K), of K candidate grids per group; `scale` and `zero` are (G, K)."""
        codes = torch.arange(low, high + 1, device=scale.device)
        values = (codes - zero[..., None]) * scale[..., None]  # (G, K, L)
        middles = ((values[..., 1:] + values[..., :-1]) / 2).flatten(1)  # between neighbouring codes
        count = self.ordered.shape[1]
        inner = torch.searchsorted(self.ordered, middles.contiguous()).reshape(*scale.shape, -1)
        edges = torch.nn.functional.pad(torch.nn.functional.pad(inner, (1, 0)), (0, 1), value=count)  # (G, K, L + 1)
        numbers = edges.diff(dim=-1)
        sums = _gather(self._sum, edges).diff(dim=-1)
        wide = values.double()
        # sum of (x - v)^2 = sum of x^2 - 2 v sum of x + n v^2, level by level
        total = self._square[:, -1:] + (wide.square() * numbers - 2 * wide * sums).sum(-1)
        return total.clamp_min(0) / count


def _gather(prefix: Tensor, places: Tensor) -> Tensor:
    """Look up `prefix` (G, n + 1) at `places` (G, K, E)."""
    return prefix.gather(1, places.flatten(1)).reshape(places.shape)


def least_error(
    x: Tensor, lows: Tensor, highs: Tensor, bits: int, *, symmetric: bool = False, batch: int = 64
) -> Range:
    """Return, per group, the candidate range with the least squared error; the first one wins a tie.

    `x` is (G, n); `lows` and `highs` are (G, K). Groups go `batch` at a time, to bound the memory.
    """
    parameters = symmetric_parameters if symmetric else asymmetric_parameters
    first = -(2 ** (bits - 1)) if symmetric else 0
    best = []
    for part in torch.arange(len(x), device=x.device).split(batch):
        scale, zero = parameters(lows[part], highs[part], bits)
        best.append(SortedValues(x[part]).error(scale, zero, first, first + 2**bits - 1).argmin(dim=1))
    choice = torch.cat(best)[:, None]
    return lows.gather(1, choice)[:, 0], highs.gather(1, choice)[:, 0]
