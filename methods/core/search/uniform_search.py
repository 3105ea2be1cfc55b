"""Uniform grids for a whole model, searched operator by operator: what AdaLog and APHQ-ViT share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from vitptq.bench.bits import FLOAT_BITS
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.operands import Layer, Linear, MatMul, Operand
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, Granularity, Uniform
from vitptq.methods.core.ranges.estimation import some_values
from vitptq.methods.core.search.fpcs import ACTIVATION_FLOOR, Error, FPCSBudget, Grids, fpcs, own_error, uniform_grids
from vitptq.methods.core.search.grid_errors import heads_first, input_error, side_error, uniform, weight_error
from vitptq.methods.core.search.recording import Inputs, recorded_inputs


def refuse_float_sides(net: PreparedModel, method: str) -> None:
    """Say so where the bit spec leaves weights or activations in float: the searches need both."""
    if net.bits.weights == FLOAT_BITS or net.bits.activations == FLOAT_BITS:
        raise Unsupported(f"{method} has no form with float weights or activations ({net.bits})")


@torch.no_grad()
def fold_norms(net: PreparedModel, calibration: Calibration, budget: FPCSBudget) -> None:
    """Fold per-channel grids behind each LayerNorm into it and its readers; the float function stays as it was.

    The readers' inputs get the grid s~ = mean(s), z~ = round(mean(z)), whose codes are those of the per-channel grids
    of least squared error.
    """
    norms: dict[nn.Module, tuple[nn.LayerNorm, tuple[Linear, ...]]] = {
        r[0]: (norm, r) for norm, r in net.norm_readers()
    }
    for _, first, inputs in recorded_inputs(net, calibration, norms):
        norm, readers = norms[first]
        channels = inputs.second[0].T.contiguous()  # (D, rows)
        bits = readers[0].input_operand.bits
        grids = uniform_grids(channels, bits, budget.candidates, holds_zero=False, floor=ACTIVATION_FLOOR)
        scale, zero = fpcs(grids, own_error(channels, bits), budget, floor=ACTIVATION_FLOOR)
        mean_scale, mean_zero = scale.mean(), zero.mean().round()
        fold_into_layer_norm(norm, readers, scale=scale / mean_scale, shift=scale * (zero - mean_zero))
        for reader in readers:
            reader.input_operand.quantizer = Uniform(bits, mean_scale, mean_zero)


@dataclass
class UniformSearch:
    """The uniform grids of one slot, searched around the range of each group of values that shares a grid."""

    slot: Operand
    values: Tensor
    """(groups, values), or an evenly spread part of them."""
    budget: FPCSBudget
    axis: int | None = None
    granularity: Granularity = "tensor"
    floor: float = ACTIVATION_FLOOR

    @staticmethod
    def of_weight(layer: Layer, budget: FPCSBudget) -> UniformSearch:
        """Return the search of a layer's weight, with a grid per output channel."""
        slot = layer.weight_operand
        rows = slot.by_channel(layer.weight.detach())
        return UniformSearch(slot, rows, budget, slot.channel_axis, "channel", SCALE_FLOOR)

    @staticmethod
    def of_input(layer: Layer, values: Tensor, budget: FPCSBudget) -> UniformSearch:
        """Return the search of what a layer reads, with one grid."""
        return UniformSearch(layer.input_operand, some_values(values.reshape(1, -1)), budget)

    @staticmethod
    def of_side(product: MatMul, inputs: Inputs, budget: FPCSBudget, *, left: bool) -> UniformSearch:
        """Return the search of one side of a product, with a grid per head."""
        slot = product.left_operand if left else product.right_operand
        return UniformSearch(slot, heads_first(inputs.first if left else inputs.second), budget, 1, "head")

    @cached_property
    def grids(self) -> Grids:
        """Return the first candidates."""
        return uniform_grids(self.values, self.slot.bits, self.budget.candidates, floor=self.floor)

    def own(self) -> None:
        """Give the slot the grids of least squared error of the values themselves."""
        self._set(self.grids, own_error(self.values, self.slot.bits))

    def best(self, error: Error) -> None:
        """Give the slot the grids of least output error; those it has stay among the candidates."""
        now = self.slot.quantizer
        assert isinstance(now, Uniform)
        self._set(self.grids.joined(now.scale, now.zero_point), error)

    def _set(self, grids: Grids, error: Error) -> None:
        scale, zero = fpcs(grids, error, self.budget, floor=self.floor)
        self.slot.quantizer = Uniform(self.slot.bits, scale, zero, axis=self.axis, granularity=self.granularity)


@torch.no_grad()
def search_layer(layer: Layer, inputs: Inputs, budget: FPCSBudget, rounds: int, *, keep_folded: bool = True) -> None:
    """Give a layer its grids: by its tensors' own errors, then (of a linear layer) by turns by the output's error.

    A grid that the input has already, from `fold_norms`, is where the search starts; without `keep_folded` it is not.
    """
    (values,) = inputs.second
    weight, read = UniformSearch.of_weight(layer, budget), UniformSearch.of_input(layer, values, budget)
    weight.own()
    if layer.input_operand.quantizer is None or not keep_folded:
        read.own()
    if isinstance(layer, Linear):
        for _ in range(rounds):
            weight.best(weight_error(layer, values))
            read.best(input_error(layer, values, uniform(layer.input_operand.bits)))


@torch.no_grad()
def search_product(product: MatMul, inputs: Inputs, budget: FPCSBudget, rounds: int) -> None:
    """Give both sides of an attention product a grid per head: by their own errors, then by turns by the output's."""
    searches = [(UniformSearch.of_side(product, inputs, budget, left=left), left) for left in (True, False)]
    for search, _ in searches:
        search.own()
    for _ in range(rounds):
        for search, left in searches:
            search.best(side_error(product, inputs, left=left))
