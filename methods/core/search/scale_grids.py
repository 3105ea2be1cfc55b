"""Grids that are searched by a factor: one granularity and one scheme of one side of an operator (Q-HyViT)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.uniform import Granularity, Uniform
from vitptq.methods.core.ranges.estimation import asymmetric_parameters, min_max
from vitptq.methods.core.search.candidate_losses import Candidates
from vitptq.methods.core.search.side_search import Grouping


@dataclass(frozen=True)
class Grid:
    """A min-max grid per group, whose scales are searched by a factor."""

    bits: int
    axis: int | None
    granularity: Granularity
    signed: bool
    scale: Tensor
    """D0 per index of the axis (one where there is none)."""
    zero: Tensor

    def candidates(self, factors: Tensor) -> Candidates:
        """Return x on the grids whose scales are `factors` (K,) times D0."""
        low = -(2 ** (self.bits - 1)) if self.signed else 0
        high = low + 2**self.bits - 1

        def quantised(x: Tensor, places: Tensor) -> Tensor:
            shape = [1] * x.ndim
            if self.axis is not None:
                shape[self.axis] = -1
            step = self.scale.reshape(shape) * factors[places].reshape(-1, *[1] * x.ndim)
            codes = (x * step.reciprocal()).round_()
            if self.signed:
                return codes.clamp_(low, high).mul_(step)
            zero = self.zero.reshape(shape)
            return codes.add_(zero).clamp_(low, high).sub_(zero).mul_(step)

        return quantised

    def quantizer(self, factor: Tensor) -> Uniform:
        """Return the quantizer with D0 times `factor`, which is one number or one per index of the axis."""
        return Uniform(
            self.bits,
            self.scale * factor,
            self.zero,
            axis=self.axis,
            granularity=self.granularity,
            signed=self.signed,
        )


def symmetric_grid(group: Grouping, x: Tensor, bits: int) -> Grid:
    """Return the signed grid with D0 = max|x| / (2^(b-1) - 0.5) per group."""
    start = group.starts(x, bits)
    scale = start if group.groups is None else start[group.groups]
    return Grid(bits, group.axis, group.granularity, True, scale, torch.zeros_like(scale))


def asymmetric_grid(group: Grouping, x: Tensor, bits: int) -> Grid:
    """Return the unsigned grid with D0 = (max - min) / (2^b - 1) per index of the axis, the range extended to hold 0.

    A factor stretches both ends, so the zero point stays.
    """
    rows = x.reshape(1, -1) if group.axis is None else x.movedim(group.axis, 0).flatten(1)
    scale, zero = asymmetric_parameters(*min_max(rows), bits)
    return Grid(bits, group.axis, group.granularity, False, scale, zero)
