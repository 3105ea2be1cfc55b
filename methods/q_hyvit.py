"""Q-HyViT: scale, granularity and scheme searched together; bridge blocks judged as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.bits import BitSpec
from bench.protocol import Calibration, Method
from methods.core.explicit import Explicit, explicit
from methods.core.families import Bridge
from methods.core.fisher import normalised, output_gradients
from methods.core.operands import Conv2d, MatMul, Operand
from methods.core.quantizers import Granularity, Uniform
from methods.core.ranges import asymmetric_parameters, min_max
from methods.core.search import (
    MEGABYTE,
    SIDES,
    Candidates,
    Enough,
    Grouping,
    Operator,
    Side,
    Trace,
    grouping,
    on_first_batch,
    operators,
    record,
    scored,
    sides,
    weighted_error,
)


@dataclass(frozen=True)
class Grid:
    """One granularity and scheme of one side: a min-max grid per group, whose scales are searched by a factor."""

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

        def quantised(x: Tensor, start: int, stop: int) -> Tensor:
            shape = [1] * x.ndim
            if self.axis is not None:
                shape[self.axis] = -1
            zero = self.zero.reshape(shape)
            step = self.scale.reshape(shape) * factors[start:stop].reshape(-1, *[1] * x.ndim)
            return (x * step.reciprocal()).round_().add_(zero).clamp_(low, high).sub_(zero).mul_(step)

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


@dataclass(frozen=True)
class QHyViT(Method):
    """For each input the best of {layer, channel} x {symmetric, asymmetric} x 100 scales, by weighted output error.

    Weights are searched by scale only. The error is weighted with squared gradients of the divergence of the
    predictions, taken with every operand at its min-max scale. Layers of a bridge block, where local features become
    tokens, are scored by the error at the block's output, with the other members quantised as they are by then.
    """

    name = "q-hyvit"
    title = "Q-HyViT"
    fidelity = "inferred"
    inferred = (
        "written from descriptions of paper and code; not compared with the official code",
        "ranges are extended to hold 0, which keeps one-sided channels from overflowing the zero point",
        "channels share one multiple of their own min-max scales, except in depthwise convolutions, whose channels are "
        "independent; members of a bridge block have one multiple each",
        "attention products have one scale per head and no channel-wise grid",
        "factor 1, the min-max scale, is a candidate too, so that no choice is worse than it",
        "the gradient's default grid is per layer and symmetric",
        "operators outside bridge blocks are calibrated in parallel, on float inputs",
        "the error on the residual path that leaves a bridge block is not scored",
        "partial mode only: softmax and normalisations stay in float",
    )
    paper = "Lee et al., Q-HyViT, 2023, arXiv 2303.12557"

    alpha: float = 0.01
    beta: float = 1.2
    candidates: int = 100
    rounds: int = 3
    granularity: Literal["search", "layer", "rule"] = "search"
    """"rule" is the released code's: a grid per channel for inputs of grouped convolutions, per layer elsewhere."""
    scheme: Literal["search", "symmetric"] = "search"
    bridges: bool = True
    """Score the layers of a bridge block at its output instead of at their own."""
    memory_mb: int = 256
    """What the candidates of one step may take (bridge blocks run one candidate at a time)."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the grids of least weighted error."""
        net = explicit(model, bits)
        found = operators(net, calibration)
        self._defaults(net, calibration, found)
        bridges = net.bridges() if self.bridges else []
        members = {name: bridge for bridge in bridges for name in bridge.members}
        chosen: dict[Operand, Uniform] = {}
        for name, operator in found.items():
            bridge = members.get(name)
            if bridge is None:
                (gradient,) = output_gradients(net, calibration, [operator], "quantised")
                trace = replace(record(net, calibration, operator), gradient=normalised(gradient))
                chosen |= self._search(net, name, trace)
            elif name == bridge.members[0]:
                chosen |= self._search_bridge(net, calibration, bridge)
        for operand, quantizer in chosen.items():
            operand.quantizer = quantizer
        return net.switch(True)

    def _defaults(self, net: Explicit, calibration: Calibration, found: dict[str, Operator]) -> None:
        """Set every operand to its default grid on the first batch: the point at which gradients are taken."""

        def default(name: str, operator: Operator, side: Side, x: Tensor) -> Uniform:
            return self._grids(net, name, operator, side, x)[0].quantizer(torch.ones((), device=x.device))

        on_first_batch(net, calibration, found, default)

    def _factors(self, device: torch.device) -> Tensor:
        """Return the multiples of D0 that are tried; beta itself is never reached, as in the parent code."""
        steps = torch.arange(self.candidates, device=device)
        return torch.cat([self.alpha + steps * ((self.beta - self.alpha) / self.candidates), steps.new_ones(1)])

    def _grids(self, net: Explicit, name: str, operator: Operator, side: Side, x: Tensor) -> list[Grid]:
        """Return the grids of one side, the default first."""
        slot = sides(operator)[SIDES.index(side)]
        default = grouping(net, name, operator, side, x)
        if slot.role == "weight":
            return [symmetric_grid(default, x, slot.bits)]
        groupings = [default]
        if not isinstance(operator, MatMul):
            channels = Grouping(slot.channel_axis, torch.arange(x.shape[slot.channel_axis], device=x.device), "channel")
            grouped = isinstance(operator, Conv2d) and operator.groups > 1
            if self.granularity == "search":
                groupings.append(channels)
            elif self.granularity == "rule" and grouped:
                groupings = [channels]
        grids = [symmetric_grid(group, x, slot.bits) for group in groupings]
        if self.scheme == "search":
            grids += [asymmetric_grid(group, x, slot.bits) for group in groupings]
        return grids

    @torch.no_grad()
    def _search(self, net: Explicit, name: str, trace: Trace) -> dict[Operand, Uniform]:
        """Return the quantizers of an operator's slots, searched in turn at its own output."""
        operator, tensors = trace.operator, (trace.first, trace.second)
        grids = [self._grids(net, name, operator, side, x) for side, x in zip(SIDES, tensors, strict=True)]
        factors = self._factors(trace.output.device)
        current = [options[0].quantizer(factors[-1]) for options in grids]
        for _ in range(self.rounds):
            for i, side in enumerate(SIDES):
                other = current[1 - i](tensors[1 - i])
                best: tuple[Tensor, Uniform] | None = None
                for grid in grids[i]:
                    outputs, inputs = self._judged(net, name, operator, side, grid, tensors[i])
                    score = weighted_error(outputs, by_head=grid.granularity == "head")
                    memory = self.memory_mb * MEGABYTE
                    scores = scored(trace, side, other, len(factors), grid.candidates(factors), score, memory)
                    value, place = scores.max(dim=0)  # (groups,)
                    chosen = factors[place] if inputs is None else factors[place][inputs]
                    if best is None or value.sum() > best[0]:
                        best = value.sum(), grid.quantizer(chosen)
                assert best is not None
                current[i] = best[1]
        return dict(zip(sides(operator), current, strict=True))

    def _judged(
        self, net: Explicit, name: str, operator: Operator, side: Side, grid: Grid, x: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return which output channels are judged together, and the group of each index of the grid's axis."""
        if side == "first" and not isinstance(operator, MatMul):
            rows = grouping(net, name, operator, side, x).groups
            return rows, rows
        if isinstance(operator, Conv2d) and operator.groups == operator.in_channels and grid.granularity == "channel":
            multiplier = operator.out_channels // operator.groups
            channels = torch.arange(operator.groups, device=x.device)
            return channels.repeat_interleave(multiplier), channels
        return None, None

    @torch.no_grad()
    def _search_bridge(self, net: Explicit, calibration: Calibration, bridge: Bridge) -> dict[Operand, Uniform]:
        """Return the quantizers of a bridge block's slots, by the error at the block's output."""
        block = BridgeRun(net, calibration, bridge)
        current: dict[Operand, Uniform] = {}
        grids: dict[Operand, list[Grid]] = {}
        net.switch(False)
        for name, operator in block.members.items():
            trace = record(net, calibration, operator)
            for slot, side, x in zip(sides(operator), SIDES, (trace.first, trace.second), strict=True):
                grids[slot] = self._grids(net, name, operator, side, x)
                current[slot] = grids[slot][0].quantizer(torch.ones((), device=x.device))
        for _ in range(self.rounds):
            for slot, options in grids.items():
                candidates = list(self._each(options))
                scores = [block.score(current | {slot: candidate}) for candidate in candidates]
                current[slot] = candidates[max(range(len(scores)), key=scores.__getitem__)]
        return current

    def _each(self, grids: Sequence[Grid]) -> Iterator[Uniform]:
        """Yield every candidate of a slot, with one factor for all its groups."""
        for grid in grids:
            for factor in self._factors(grid.scale.device):
                yield grid.quantizer(factor)


class BridgeRun:
    """A bridge block on the calibration images: what enters it, its float outputs, and the weights of their errors."""

    def __init__(self, net: Explicit, calibration: Calibration, bridge: Bridge) -> None:
        self.net, self.inside = net, net.model.get_submodule(bridge.inside)
        self.members: dict[str, Any] = {name: net.model.get_submodule(name) for name in bridge.members}
        self.ends = [net.model.get_submodule(name) for name in bridge.outputs]
        gradients = output_gradients(net, calibration, self.ends, "quantised")
        self.inputs = self._enter(calibration)
        self.targets = self._run()
        largest = torch.stack([gradient.abs().amax() for gradient in gradients]).amax()
        known = largest > 0 and largest.isfinite()
        self.weights = [(g / largest).square() if known else torch.ones_like(g) for g in gradients]

    def score(self, quantizers: dict[Operand, Uniform]) -> float:
        """Return minus the weighted error at the block's outputs with these quantizers on."""
        before = {slot: (slot.quantizer, slot.on) for slot in quantizers}
        for slot, quantizer in quantizers.items():
            slot.quantizer, slot.on = quantizer, True
        try:
            outputs = self._run()
        finally:
            for slot, (kept, on) in before.items():
                slot.quantizer, slot.on = kept, on
        parts = zip(outputs, self.targets, self.weights, strict=True)
        return -sum(float((weight * (out - target).square()).sum()) for out, target, weight in parts)

    @torch.no_grad()
    def _enter(self, calibration: Calibration) -> tuple[Tensor, ...]:
        """Return the float inputs of the module that holds the block, all batches joined."""
        seen: list[tuple[Tensor, ...]] = []

        def enter(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen.append(args)
            raise Enough

        handle = self.inside.register_forward_pre_hook(enter)
        try:
            for batch in calibration.batches():
                with suppress(Enough):
                    calibration.forward(self.net.model, batch)
        finally:
            handle.remove()
        return tuple(torch.cat(parts) for parts in zip(*seen, strict=True))

    @torch.no_grad()
    def _run(self) -> list[Tensor]:
        """Return the block's outputs; what comes behind them is not computed."""
        outputs: dict[nn.Module, Tensor] = {}

        def leave(module: nn.Module, args: Any, output: Tensor) -> None:
            outputs[module] = output
            if len(outputs) == len(self.ends):
                raise Enough

        handles = [end.register_forward_hook(leave) for end in self.ends]
        try:
            with suppress(Enough):
                self.inside(*self.inputs)
        finally:
            for handle in handles:
                handle.remove()
        return [outputs[end] for end in self.ends]


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
