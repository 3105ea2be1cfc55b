"""Calibrate LayerNorm and softmax on integers (FQ-ViT, arXiv 2111.13824): their scales, from one float pass."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.norm import LayerNorm as TimmLayerNorm
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.operands import Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.quantizers.integer import (
    IntegerLayerNorm,
    LogIntSoftmax,
    relative_scores,
    rounded,
    score_scale,
)
from vitptq.methods.core.ranges.estimation import asymmetric_parameters
from vitptq.methods.core.ranges.observers import RunningMinMax

FACTORS = 4
"""Power-of-two factors per channel: 2^0 to 2^3."""
SOFTMAX_BITS = 4


def integer_softmaxes(
    net: PreparedModel, calibration: Calibration, *, zero: bool = False
) -> dict[Operand, LogIntSoftmax]:
    """Return an integer softmax for every slot that reads probabilities, scaled by the widest row of scores."""
    slots = {name: operand for name, operand in net.activations.items() if operand.role == "softmax"}
    widest: dict[Operand, Tensor] = {}

    def watch(operand: Operand, x: Tensor) -> None:
        spread = -relative_scores(x).amin()
        widest[operand] = spread.maximum(widest.get(operand, spread))

    with watching(slots, watch):
        net.run(calibration)
    return {
        operand: LogIntSoftmax(min(SOFTMAX_BITS, operand.bits), score_scale(widest[operand]), zero=zero)
        for operand in slots.values()
    }


def integer_norms(net: PreparedModel, calibration: Calibration, bits: int) -> None:
    """Replace every LayerNorm by its integer form."""
    norms = {n: m for n, m in net.model.named_modules() if type(m) in (nn.LayerNorm, TimmLayerNorm)}
    seen = {name: _NormRanges() for name in norms}
    handles = [norm.register_forward_hook(seen[name].see) for name, norm in norms.items()]
    try:
        net.run(calibration)
    finally:
        for handle in handles:
            handle.remove()
    for name, norm in norms.items():
        ranges = seen[name]
        base, zero = asymmetric_parameters(*ranges.input.range(), bits)
        factors = power_of_two_factors(ranges.last, base, zero, bits)
        out_scale, _ = asymmetric_parameters(*ranges.output.range(), bits)
        parent, _, own = name.rpartition(".")
        integer: Any = IntegerLayerNorm(norm, base, zero, factors, out_scale, bits)
        setattr(net.model.get_submodule(parent), own, integer.train(norm.training))


class _NormRanges:
    """Ranges of what enters and leaves a LayerNorm over all batches, and what entered in the last one."""

    last: Tensor

    def __init__(self) -> None:
        self.input, self.output = RunningMinMax(), RunningMinMax()

    def see(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Take in one batch, tensors (..., C)."""
        self.last = args[0].flatten(0, -2).T  # (C, values)
        self.input.see(args[0].reshape(1, -1), bits=0, last=False)
        self.output.see(output.reshape(1, -1), bits=0, last=False)


def power_of_two_factors(x: Tensor, base: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Return k per channel, in 0..3, of least squared error with the scale base / 8 * 2^k (section 3.2, eq. 9 to 11).

    `x` is (C, values); `base` and `zero` belong to the range over all channels, and all factors share the zero point.
    """
    errors = [(rounded(x, base / 8 * 2**k, zero, bits) - x).square().mean(dim=1) for k in range(FACTORS)]
    return torch.stack(errors).argmin(dim=0)
