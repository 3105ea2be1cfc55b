"""Uniform grids for a whole model, searched operator by operator: what AdaLog and APHQ-ViT share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitptq.bench.bits import FLOAT_BITS
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.operands import Conv2d, ConvTranspose2d, Linear, MatMul
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.estimation import some_values
from vitptq.methods.core.search.product_search import (
    Operator,
    Reads,
    calls_in_a_pass,
    each_recorded,
    heads_first,
    input_error,
    per_head,
    per_row,
    side_error,
    uniform_grids,
    weight_error,
)
from vitptq.methods.core.search.progressive import (
    ACTIVATION_FLOOR,
    Candidates,
    Progress,
    own_error,
    progressive,
    uniform_candidates,
)

Told = Callable[[str, float], None]
"""Called with (side, output error) behind each half of a round."""


def refuse_float_sides(net: PreparedModel, method: str) -> None:
    """Say so where the bit spec leaves weights or activations in float: the searches need both."""
    if net.bits.weights == FLOAT_BITS or net.bits.activations == FLOAT_BITS:
        raise Unsupported(f"{method} has no form with float weights or activations ({net.bits})")


@torch.no_grad()
def fold_norms(net: PreparedModel, calibration: Calibration, progress: Progress) -> None:
    """Fold per-channel grids behind each LayerNorm into it and its readers; the float function stays as it was.

    The readers' inputs get the grid s~ = mean(s), z~ = round(mean(z)), whose codes are those of the per-channel grids
    of least squared error.
    """
    calls = calls_in_a_pass(net, calibration)
    norms: dict[nn.Module, tuple[nn.LayerNorm, tuple[Linear, ...]]] = {
        r[0]: (norm, r) for norm, r in net.norm_readers()
    }
    names = [name for name in calls if net.model.get_submodule(name) in norms]
    for _, first, reads in each_recorded(net, calibration, names, calls):
        norm, readers = norms[first]
        channels = reads.second[0].T.contiguous()  # (D, rows)
        bits = readers[0].input_operand.bits
        candidates = uniform_candidates(channels, bits, progress.candidates, holds_zero=False, floor=ACTIVATION_FLOOR)
        scale, zero = progressive(candidates, own_error(channels, bits), progress, floor=ACTIVATION_FLOOR)
        mean_scale, mean_zero = scale.mean(), zero.mean().round()
        fold_into_layer_norm(norm, readers, scale=scale / mean_scale, shift=scale * (zero - mean_zero))
        for reader in readers:
            reader.input_operand.quantizer = Uniform(bits, mean_scale, mean_zero)


@torch.no_grad()
def search_layer(layer: Operator, reads: Reads, progress: Progress, rounds: int, tell: Told | None = None) -> None:
    """Give a layer its grids: by its tensors' own errors, then (of a linear layer) by turns by the output's error."""
    assert isinstance(layer, Linear | Conv2d | ConvTranspose2d)
    (values,) = reads.second
    own_weight(layer, progress)
    inputs = input_candidates(values, layer.input_operand.bits, progress)
    if layer.input_operand.quantizer is None:
        sample = some_values(values.reshape(1, -1))
        found = progressive(inputs, own_error(sample, layer.input_operand.bits), progress, floor=ACTIVATION_FLOOR)
        layer.input_operand.quantizer = Uniform(layer.input_operand.bits, *found)
    if isinstance(layer, Linear):
        for _ in range(rounds):
            alternate_weight(layer, values, progress, tell)
            _alternate_input(layer, values, inputs, progress, tell)


def input_candidates(values: Tensor, bits: int, progress: Progress) -> Candidates:
    """Return per-tensor grids for what a layer reads."""
    sample = some_values(values.reshape(1, -1))
    return uniform_candidates(sample, bits, progress.candidates, floor=ACTIVATION_FLOOR)


def own_weight(layer: Linear | Conv2d | ConvTranspose2d, progress: Progress) -> None:
    """Give the weight the grid per output channel of least squared error."""
    rows = layer.weight_operand.by_channel(layer.weight.detach())
    bits = layer.weight_operand.bits
    found = progressive(uniform_candidates(rows, bits, progress.candidates), own_error(rows, bits), progress)
    layer.weight_operand.quantizer = per_row(layer, *found)


def alternate_weight(layer: Linear, values: Tensor, progress: Progress, tell: Told | None = None) -> None:
    """Give the weight the grid of least output error; the one it has stays among the candidates."""
    quantizer = layer.weight_operand.quantizer
    assert isinstance(quantizer, Uniform)
    weight = layer.weight.detach()
    candidates = uniform_candidates(weight, quantizer.bits, progress.candidates)
    error = weight_error(layer, values)
    found = progressive(candidates.joined(quantizer.scale, quantizer.zero_point), error, progress)
    layer.weight_operand.quantizer = per_row(layer, *found)
    if tell is not None:
        tell("weight", float(error(*(x[:, None] for x in found)).sum()))


def _alternate_input(
    layer: Linear, values: Tensor, candidates: Candidates, progress: Progress, tell: Told | None
) -> None:
    quantizer = layer.input_operand.quantizer
    assert isinstance(quantizer, Uniform)
    error = input_error(layer, values, uniform_grids(quantizer.bits))
    joined = candidates.joined(quantizer.scale, quantizer.zero_point)
    found = progressive(joined, error, progress, floor=ACTIVATION_FLOOR)
    layer.input_operand.quantizer = Uniform(quantizer.bits, *found)
    if tell is not None:
        tell("input", float(error(*(x[:, None] for x in found)).sum()))


@torch.no_grad()
def search_product(product: MatMul, reads: Reads, progress: Progress, rounds: int) -> None:
    """Give both sides of an attention product a grid per head: by their own errors, then by turns by the output's."""
    own_side(product, reads, progress, left=True)
    own_side(product, reads, progress, left=False)
    for _ in range(rounds):
        alternate_side(product, reads, progress, left=True)
        alternate_side(product, reads, progress, left=False)


def own_side(product: MatMul, reads: Reads, progress: Progress, *, left: bool) -> None:
    """Give one side of a product the grid per head of least squared error."""
    slot = product.left_operand if left else product.right_operand
    heads = heads_first(reads.first if left else reads.second)
    candidates = uniform_candidates(heads, slot.bits, progress.candidates, floor=ACTIVATION_FLOOR)
    found = progressive(candidates, own_error(heads, slot.bits), progress, floor=ACTIVATION_FLOOR)
    slot.quantizer = per_head(slot.bits, *found)


def alternate_side(product: MatMul, reads: Reads, progress: Progress, *, left: bool) -> None:
    """Give one side of a product the grid per head of least output error; the one it has is a candidate."""
    slot = product.left_operand if left else product.right_operand
    assert isinstance(slot.quantizer, Uniform)
    heads = heads_first(reads.first if left else reads.second)
    candidates = uniform_candidates(heads, slot.bits, progress.candidates, floor=ACTIVATION_FLOOR)
    joined = candidates.joined(slot.quantizer.scale, slot.quantizer.zero_point)
    found = progressive(joined, side_error(product, reads, left=left), progress, floor=ACTIVATION_FLOOR)
    slot.quantizer = per_head(slot.bits, *found)
