"""One layer's weight to be rounded, with all that a rule may ask of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vitptq.methods.core.layerwise.matrices import rows_per_channel, weight_matrix, weight_of
from vitptq.methods.core.layerwise.moments import Moments
from vitptq.methods.core.layerwise.row_grid import RowGrid
from vitptq.methods.core.model.operands import Layer
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.estimation import Range, uniform


@dataclass(frozen=True)
class LayerProblem:
    """A layer, its weight as a matrix, and the second moments of what it reads."""

    layer: Layer
    weight: Tensor
    """(groups, outputs, inputs), float64; not to be changed in place."""
    moments: Moments

    @property
    def bits(self) -> int:
        """Return the width of the weight."""
        return self.layer.weight_operand.bits

    @property
    def behind_gelu(self) -> bool:
        """Tell whether the layer reads what has just left a GELU: the second one of an MLP."""
        return self.layer.input_operand.role == "gelu"

    def quantizer(self, estimate: Callable[[Tensor, int], Range]) -> Uniform:
        """Return the asymmetric grid per output channel that covers the range `estimate(channels, bits)` of each."""
        operand = self.layer.weight_operand
        rows = operand.by_channel(weight_of(self.layer, self.weight).to(self.layer.weight))
        low, high = estimate(rows, self.bits)
        return uniform(low, high, self.bits, axis=operand.channel_axis, granularity="channel")

    def grid(self, quantizer: Uniform) -> RowGrid:
        """Return the quantizer's grid for the rows of the matrix."""
        return RowGrid.of(quantizer, self.weight.shape[0], rows_per_channel(self.layer))


def problem_of(layer: Layer, moments: Moments) -> LayerProblem:
    """Return the problem of a float layer."""
    return LayerProblem(layer, weight_matrix(layer, layer.weight.detach().double()), moments)
