"""A uniform grid per output channel, as layer-wise methods round to it: column by column, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.uniform import Uniform


@dataclass(frozen=True)
class RowGrid:
    """The grid of each row of a weight matrix (groups, outputs, inputs)."""

    scale: Tensor
    """(groups, outputs, 1), float64."""
    lowest: Tensor
    """Lowest code less the zero point, same shape."""
    highest: Tensor

    @classmethod
    def of(cls, quantizer: Uniform, groups: int, repeated: int) -> RowGrid:
        """Return the grid of a matrix whose channels, the quantizer's groups, have `repeated` rows each."""

        def rows(values: Tensor) -> Tensor:
            return values.double().repeat_interleave(repeated).reshape(groups, -1, 1)

        zero = quantizer.zero_point
        return cls(rows(quantizer.scale), rows(quantizer.low - zero), rows(quantizer.high - zero))

    def nearest(self, weight: Tensor) -> Tensor:
        """Return the nearest values on the grid, shape (groups, outputs, columns)."""
        codes = (weight / self.scale).round()
        return torch.minimum(torch.maximum(codes, self.lowest), self.highest) * self.scale
