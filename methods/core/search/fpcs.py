"""Fast progressive combining search (FPCS of AdaLog, arXiv 2407.12951): coarse grids, then finer ones around the best.

With one step it is the plain grid search of APHQ-ViT (arXiv 2504.02508).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR
from vitptq.methods.core.ranges.estimation import SortedValues, percentile


class Error(Protocol):
    """What a search minimises."""

    def __call__(self, scale: Tensor, zero: Tensor, wanted: int | None = None) -> Tensor:
        """Return errors (groups, K) of scales and zero points, each (groups, K).

        Those of other candidates than the `wanted` least of each group (None is all) may be infinite.
        """


ZERO_POINTS = 16
INNER = 0.9
"""The narrowest range goes from the quantile 1 - INNER to the quantile INNER."""
ACTIVATION_FLOOR = 1e-4
CONSTANT = 1e-4
"""A group whose range is smaller than this share of its values is taken as constant."""
GROUPS_AT_ONCE = 64


@dataclass(frozen=True)
class Grids:
    """Candidate grids of each group."""

    scale: Tensor
    """(groups, K)."""
    zero: Tensor
    """(groups, K); of another quantizer, its second parameter."""
    step: Tensor
    """(groups,): the distance of neighbouring scales."""

    def joined(self, scale: Tensor, zero: Tensor) -> Grids:
        """Return these grids and one more per group, (groups,)."""
        return Grids(
            torch.cat([self.scale, scale[:, None]], dim=1), torch.cat([self.zero, zero[:, None]], dim=1), self.step
        )


@dataclass(frozen=True)
class FPCSBudget:
    """What a search tries: candidates per step, survivors of a step, steps."""

    candidates: int = 128
    survivors: int = 16
    steps: int = 6


def uniform_grids(
    x: Tensor, bits: int, count: int = 128, *, holds_zero: bool = True, floor: float = SCALE_FLOOR
) -> Grids:
    """Return `count` grids per group of `x` (groups, values): scales times zero points.

    The scales lie evenly between those of the inner 80 % of the values and of all values; the zero points are 16 (or
    2^bits) neighbours around that of the range, so that at 6 and 8 bits every code can be reached too (the released
    codes take the neighbours of the middle code). With `holds_zero` the ranges are extended to hold 0, and a group
    without negative values has the zero point 0 alone.
    """
    levels = 2**bits - 1
    inner_low, inner_high = percentile(x, INNER)
    low, high = x.aminmax(dim=1)
    constant = high - low < CONSTANT * torch.maximum(low.abs(), high.abs())
    if holds_zero:
        constant = torch.ones_like(constant)
    inner_low, low = (torch.where(constant, v.clamp_max(0), v) for v in (inner_low, low))
    inner_high, high = (torch.where(constant, v.clamp_min(0), v) for v in (inner_high, high))

    zeros = min(ZERO_POINTS, 2**bits)
    scales = max(2, count // zeros)
    way = torch.linspace(0, 1, scales, device=x.device, dtype=x.dtype)
    lows = inner_low[:, None] + (low - inner_low)[:, None] * way  # (G, scales)
    spans = (inner_high - inner_low)[:, None] + ((high - low) - (inner_high - inner_low))[:, None] * way
    scale = (spans / levels).clamp_min(floor)
    centre = (-lows / scale).round()
    offsets = torch.arange(zeros, device=x.device) - zeros // 2
    zero = centre[:, :, None] + offsets  # (G, scales, zeros)
    if holds_zero:
        zero = torch.where((low >= 0)[:, None, None], torch.zeros_like(zero), zero)
    step = (scale[:, -1] - scale[:, 0]) / (scales - 1)
    return Grids(scale[:, :, None].expand_as(zero).flatten(1), zero.flatten(1), step)


@torch.no_grad()
def fpcs(
    grids: Grids, error: Error, budget: FPCSBudget = FPCSBudget(), *, floor: float = SCALE_FLOOR
) -> tuple[Tensor, Tensor]:
    """Return, per group, the scale and the zero point of least error, (groups,) each; ties: the first.

    Each step keeps the best `survivors` and proposes new scales around every one of them, with its zero point. The
    survivors stay candidates (in the released code they do not, so that a step can lose the best one).
    """
    scale, zero, step = grids.scale, grids.zero, grids.step
    errors = error(scale, zero, budget.survivors if budget.steps > 1 else 1)
    children = max(2, budget.candidates // budget.survivors)
    offsets = torch.linspace(0, 1, children, device=scale.device, dtype=scale.dtype) - 0.5
    for step_number in range(1, budget.steps):
        kept = budget.survivors if step_number + 1 < budget.steps else 1
        scale, zero, errors = _best(scale, zero, errors, min(budget.survivors, scale.shape[1]))
        finer = (scale[:, :, None] + step[:, None, None] * offsets).clamp_min(floor).flatten(1)
        same = zero[:, :, None].expand(-1, -1, children).flatten(1)
        errors = torch.cat([errors, error(finer, same, kept)], dim=1)
        scale, zero = torch.cat([scale, finer], dim=1), torch.cat([zero, same], dim=1)
        step = step / (children - 0.5)
    scale, zero, _ = _best(scale, zero, errors, 1)
    return scale[:, 0], zero[:, 0]


def _best(scale: Tensor, zero: Tensor, errors: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `keep` candidates of least error per group, best first, the first of equals before the others."""
    places = errors.argsort(dim=1, stable=True)[:, :keep]
    return scale.gather(1, places), zero.gather(1, places), errors.gather(1, places)


def own_error(x: Tensor, bits: int) -> Error:
    """Return the mean squared error of unsigned uniform grids on `x` (groups, values), from sorted values."""
    parts = [SortedValues(part) for part in x.split(GROUPS_AT_ONCE)]

    def error(scale: Tensor, zero: Tensor, wanted: int | None = None) -> Tensor:
        pairs = zip(scale.split(GROUPS_AT_ONCE), zero.split(GROUPS_AT_ONCE), strict=True)
        found = [part.error(s, z, 0, 2**bits - 1) for part, (s, z) in zip(parts, pairs, strict=True)]
        return torch.cat(found)

    return error
