"""Range estimation: from values, arranged as (groups, values), to the (low, high) that a uniform grid covers.

Searches run over all candidates at once on sorted values: with prefix sums, the exact squared error of a grid costs a
few binary searches instead of a pass over the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, Granularity, Uniform

BINS = 2**13
PIECE = 2**16
MANY = 2**14
"""From so many values on, bins are faster than sorting."""
SAMPLED = 61
"""One value in so many is looked at first; no divisor of a number of channels, or a few of them would stand for all."""
VALUES = 200_000
"""Values of a group that stand for all of them."""

Range = tuple[Tensor, Tensor]
"""Lowest and highest value to cover, each of shape (groups,)."""


def min_max(x: Tensor) -> Range:
    """Return the extreme values of each group; `x` is (groups, values)."""
    low, high = x.aminmax(dim=1)
    return low, high


def percentile(x: Tensor, fraction: float) -> Range:
    """Return the (1 - fraction) and `fraction` quantiles of each group, with linear interpolation."""
    (found,) = percentiles(x, (fraction,))
    return found


def percentiles(x: Tensor, fractions: Sequence[float]) -> list[Range]:
    """Return `percentile` for each of the fractions.

    Near the ends only the few values beyond the innermost quantiles are put in order, once for all fractions, which is
    many times faster than a sort.
    """
    last = x.shape[1] - 1
    reach = _beyond(last, fractions)
    if reach > x.shape[1] // 8:
        ordered = x.sort(dim=1).values
        return [(sorted_quantile(ordered, 1 - f), sorted_quantile(ordered, f)) for f in fractions]
    bottom, top = ends(x, reach, largest=False), ends(x, reach, largest=True)
    return [(_between(bottom, (1 - f) * last), _between(top, f * last - (last + 1 - reach))) for f in fractions]


def upper_percentiles(x: Tensor, fractions: Sequence[float]) -> list[Tensor]:
    """Return the upper ends of `percentiles` alone, (groups,) each."""
    last = x.shape[1] - 1
    reach = _beyond(last, fractions)
    top = ends(x, reach, largest=True)
    return [_between(top, f * last - (last + 1 - reach)) for f in fractions]


def _beyond(last: int, fractions: Sequence[float]) -> int:
    """Return how many values there are from the highest down to the one below the lowest of some quantiles."""
    return last + 1 - int(min(fractions) * last)


def ends(x: Tensor, count: int, *, largest: bool) -> Tensor:
    """Return the `count` largest or smallest values of each group, ascending; NaN is larger than any number.

    Of a large group on a CPU, a sample tells a bound that leaves few values to be ordered: a sixth of the time.
    """
    if len(x) == 1 and x.shape[1] >= MANY and x.device.type == "cpu":
        row = x[0]
        sure = row[::SAMPLED].topk(min(2 * count // SAMPLED + 8, len(row) // SAMPLED), largest=largest).values[-1]
        beyond = row[~(row < sure) if largest else row <= sure]
        if count <= len(beyond) <= 8 * count + MANY:
            ordered = beyond.sort().values[None]
            return ordered[:, -count:] if largest else ordered[:, :count]
    found = x.topk(count, dim=1, largest=largest).values
    return found.flip(1) if largest else found


def _between(ordered: Tensor, place: float) -> Tensor:
    """Return the value at a fractional place of ascending values along the last axis."""
    below = int(place)
    above = min(below + 1, ordered.shape[-1] - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], place - below)


def sorted_quantile(ordered: Tensor, fraction: float) -> Tensor:
    """Return a quantile of ascending values along the last axis; unlike torch.quantile, of any number of them."""
    return _between(ordered, fraction * (ordered.shape[-1] - 1))


def evenly_spread(count: int, limit: int, device: torch.device) -> Tensor:
    """Return up to `limit` places of `count`, evenly spread."""
    kept = min(count, limit)
    return torch.arange(kept, device=device) * count // kept


def some_values(x: Tensor) -> Tensor:
    """Return an evenly spread part of x (groups, values), and the extreme values of each group."""
    if x.shape[1] <= VALUES:
        return x
    ends = torch.stack(x.aminmax(dim=1), dim=1)
    return torch.cat([x[:, evenly_spread(x.shape[1], VALUES, x.device)], ends], dim=1)


def asymmetric_parameters(low: Tensor, high: Tensor, bits: int, *, holds_zero: bool = True) -> tuple[Tensor, Tensor]:
    """Return scale and zero point for unsigned codes: the range is first extended to hold 0 (FQ-ViT's form, extended).

    Without the extension (`holds_zero` off, the form that FQ-ViT released) a tensor that stays above 0 gets a clamped
    zero point and loses the top of its range.
    """
    if holds_zero:
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
        levels = first, first + 2**bits - 1
        if x.shape[1] < MANY:
            best.append(SortedValues(x[part]).error(scale, zero, *levels).argmin(dim=1))
        else:
            rows = zip(x[part], scale, zero, strict=True)
            best.append(torch.stack([_least_of_many(*row, *levels) for row in rows]))
    choice = torch.cat(best)[:, None]
    return lows.gather(1, choice)[:, 0], highs.gather(1, choice)[:, 0]


def _least_of_many(x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """Return the index of the grid, `scale` and `zero` (K,), with the least squared error on x (n,); ties: the first.

    Counts and sums in bins bound every grid's error closely; a pass over the values decides between those whose bounds
    overlap. A few passes in all, where sorting takes as long as ninety.
    """
    upper, slack = Bins(x).error(scale, zero, low, high)
    close = (upper - slack <= upper.amin()).nonzero()[:, 0]
    if len(close) == 1:
        return close[0]
    errors = []
    for place in close.tolist():
        q = (x / scale[place]).round_().add_(zero[place]).clamp_(low, high).sub_(zero[place])
        errors.append(q.mul_(scale[place]).sub_(x).square_().sum(dtype=torch.float64))
    return close[torch.stack(errors).argmin()]


class Bins:
    """Values counted and summed in bins of equal width: they tell the error of a grid but for a small slack.

    One pass over the values, in pieces that stay in the processor's cache.
    """

    def __init__(self, x: Tensor) -> None:
        low, high = x.aminmax()
        width = ((high - low) / (BINS - 1)).clamp_min(torch.finfo(x.dtype).tiny)
        counts = torch.zeros(BINS, dtype=torch.int64, device=x.device)
        sums = torch.zeros(BINS, dtype=torch.float64, device=x.device)
        square = torch.zeros((), dtype=torch.float64, device=x.device)
        for piece in x.split(PIECE if x.device.type == "cpu" else len(x)):
            places = piece.sub(low).mul_(width.reciprocal()).int()
            wide = piece.double()
            counts += torch.bincount(places, minlength=BINS)
            sums += torch.bincount(places, weights=wide, minlength=BINS)
            square += torch.dot(wide, wide)
        self.low, self.width, self.square = low.double(), width.double(), square
        self.counts, self.sums = counts.double(), sums
        self._counts, self._sums = (torch.nn.functional.pad(x.cumsum(0), (1, 0)) for x in (self.counts, sums))

    def error(self, scale: Tensor, zero: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
        """Return, for K grids, the squared error with each bin on one level, and by how much that may be too much.

        Only in a bin that two levels share is there any: a value on the wrong side of the middle, at most a bin's width
        from it, has an error larger by at most twice the step times that width. Where a bin is as wide as a step, any
        value may be whole levels off.
        """
        scale, zero = scale.double(), zero.double()
        codes = torch.arange(low, high + 1, device=scale.device)
        values = (codes - zero[:, None]) * scale[:, None]  # (K, L)
        middles = (values[:, 1:] + values[:, :-1]) / 2
        place = ((middles - self.low) / self.width).floor_().clamp_(-1, BINS).long()
        inside = place.clamp(0, BINS - 1)
        shared = self.counts[inside]
        below = (self.sums[inside] < middles * shared) & (place < BINS)  # the shared bin is on the lower level
        edges = torch.nn.functional.pad((place + below).clamp_(0, BINS), (1, 1))
        edges[:, -1] = BINS
        numbers, sums = self._counts[edges].diff(), self._sums[edges].diff()
        error = self.square + (values.square() * numbers - 2 * values * sums).sum(1)
        count = self.counts.sum()
        # float32 knows a value's place to a thousandth of a bin, so any may stand on the wrong side of an edge
        near = shared.sum(1) + 1e-3 * count
        steps = self.width / scale
        slack = torch.where(steps < 0.99, 2.01 * steps * near, (0.51 + steps).square() * count)
        slack = slack * scale.square()
        return error, slack + 1e-9 * self.square
