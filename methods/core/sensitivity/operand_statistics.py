"""How hard operands are to quantise: channels of unequal width, a growing residual stream, peaked attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.operands import Operand, watching
from vitptq.methods.core.model.prepare import prepare

Series = Mapping[str, float]
"""A number for each place of the model, in execution order."""


@dataclass(frozen=True)
class OperandStatistics:
    """What the calibration images show of a float model."""

    channel_spread: Series
    """Behind each LayerNorm, the widest channel's range (maximum minus minimum) divided by the median channel's."""
    residual: Series
    """The largest absolute value that leaves each block."""
    attention_peak: Series
    """Behind each softmax, the largest probability of a row, averaged over rows: 1 where one token gets all."""


@torch.no_grad()
def operand_statistics(model: nn.Module, calibration: Calibration) -> OperandStatistics:
    """Return the statistics of a model of a family that quantisation knows; `model` stays as it was."""
    net = prepare(model, BitSpec(8, 8))
    norms = [readers[0].input_operand for _, readers in net.norm_readers() if readers]
    attention = [operand for operand in net.operands.values() if operand.role == "softmax"]
    extremes, peaks, largest = _Extremes(), _Means(), _Maxima()

    def watch(operand: Operand, x: Tensor) -> None:
        if operand.role == "softmax":
            peaks.see(operand.name, x.amax(dim=-1))
        else:
            extremes.see(operand.name, operand.by_channel(x))

    watched = {operand.name: operand for operand in [*norms, *attention]}
    with watching(watched, watch), ExitStack() as hooks:
        for name, block in net.blocks():
            hooks.callback(block.register_forward_hook(_seen_by(largest.see, name)).remove)
        net.run(calibration)
    return OperandStatistics(extremes.spreads(), largest.found, peaks.means())


def _seen_by(see: Callable[[str, Tensor], None], name: str) -> Callable[[nn.Module, object, object], None]:
    def hook(_module: nn.Module, _inputs: object, output: object) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                see(name, tensor)

    return hook


class _Maxima:
    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def see(self, name: str, x: Tensor) -> None:
        self.found[name] = max(self.found.get(name, 0.0), float(x.abs().max()))


class _Means:
    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}

    def see(self, name: str, x: Tensor) -> None:
        total, count = self.sums.get(name, (0.0, 0))
        self.sums[name] = total + float(x.sum()), count + x.numel()

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self.sums.items()}


class _Extremes:
    def __init__(self) -> None:
        self.ranges: dict[str, tuple[Tensor, Tensor]] = {}

    def see(self, name: str, rows: Tensor) -> None:
        low, high = rows.amin(dim=1), rows.amax(dim=1)
        if name in self.ranges:
            low, high = low.minimum(self.ranges[name][0]), high.maximum(self.ranges[name][1])
        self.ranges[name] = low, high

    def spreads(self) -> dict[str, float]:
        widths = {name: high - low for name, (low, high) in self.ranges.items()}
        return {name: float(width.max() / width.median()) for name, width in widths.items()}
