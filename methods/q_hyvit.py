"""Q-HyViT: scale, granularity and scheme searched together; bridge blocks judged as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from vitptq import BitSpec, Calibration, Conv2d, MatMul, Method, Operand, PreparedModel, Quantizer, prepare, run_time
from vitptq.methods.core.model.families import Bridge
from vitptq.methods.core.ranges.integer import integer_norms, integer_softmaxes
from vitptq.methods.core.search.alternating import Judge, SlotSearch, alternate, at_own_output, operator_slots
from vitptq.methods.core.search.bridge import BridgeRun, at_block_output
from vitptq.methods.core.search.candidates import (
    Candidates,
    Grouping,
    asymmetric,
    by_index,
    default_grouping,
    multiples,
    symmetric,
)
from vitptq.methods.core.search.recording import (
    MEGABYTE,
    SIDES,
    Operator,
    Side,
    recordings,
    set_on_first_batch,
    sides,
)
from vitptq.methods.core.sensitivity.fisher import output_gradients

FULL_MODE_BITS = 8
"""Width of what enters and leaves a LayerNorm in full mode."""


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
        "independent; so does the weight of a bridge block's first layer",
        "attention products have one scale per head and no channel-wise grid",
        "factor 1, the min-max scale, is a candidate too, so that no choice is worse than it",
        "the gradient's default grid is per layer and symmetric",
        "operators outside bridge blocks are calibrated in parallel, on float inputs",
        'the error on the residual path that leaves a bridge block is scored only with bridge_score="block+own"',
        'mode="full" is this project\'s reading: LayerNorm on 8-bit integers with power-of-two factors and a 4-bit '
        "log2 softmax, as in FQ-ViT; group normalisations stay in float",
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
    bridge_score: Literal["block", "block+own"] = "block"
    """"block+own" adds the error at the layer's own output, each divided by its value at the min-max scales."""
    gradient_point: Literal["all", "bridge"] = "all"
    """"bridge" is the released code's: gradients are taken with only the layers of bridge blocks quantised."""
    mode: Literal["partial", "full"] = "partial"
    """"full" puts LayerNorm and softmax on integers as well."""
    memory_mb: int = run_time(256)
    """What the candidates of one step may take; more makes the search faster, not different."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the grids of least weighted error."""
        net = prepare(model, bits)
        set_on_first_batch(net, calibration, lambda *side: self._families(net, *side)[0].default())
        fixed = integer_softmaxes(net, calibration) if self.mode == "full" else {}
        chosen: dict[Operand, Quantizer] = {}
        for slots, judge in self._searches(net, calibration):
            for slot in slots:
                if slot.operand in fixed:
                    slot.families, slot.quantizer = (), fixed[slot.operand]
            chosen |= alternate(slots, judge, self.rounds)
        for operand, quantizer in chosen.items():
            operand.quantizer = quantizer
        if self.mode == "full":
            integer_norms(net, calibration, FULL_MODE_BITS)
        return net.switch(True)

    def _searches(self, net: PreparedModel, calibration: Calibration) -> Iterator[tuple[list[SlotSearch], Judge]]:
        """Yield slots that are searched in turn, with what judges them: of each bridge block, of each other operator.

        Their gradients are taken with every operand at its default grid (specification, section 4.5, pass 2).
        """
        memory = self.memory_mb * MEGABYTE
        bridges = net.bridges() if self.bridges else []
        at = self._gradient_net(net)
        for bridge in bridges:
            slots, run = self._bridge(net, at, calibration, bridge)
            yield slots, at_block_output(run, slots, memory, with_own=self.bridge_score == "block+own")
        members = {name for bridge in bridges for name in bridge.members}
        for name, operator, parts in recordings(
            net, calibration, memory, gradient_point="quantised", gradient_net=at, without=members
        ):
            slots = operator_slots(operator, parts, partial(self._families, net, name))
            yield slots, at_own_output(parts, slots, memory)

    def _gradient_net(self, net: PreparedModel) -> PreparedModel:
        """Return the model with only those operands that quantise where gradients are taken."""
        if self.gradient_point == "all":
            return net
        inside = tuple(f"{name}." for bridge in net.bridges() for name in bridge.members)
        return replace(net, operands={name: slot for name, slot in net.operands.items() if name.startswith(inside)})

    def _bridge(
        self, net: PreparedModel, at: PreparedModel, calibration: Calibration, bridge: Bridge
    ) -> tuple[list[SlotSearch], BridgeRun]:
        """Return the slots of a bridge block's members, in order, and the block to run them in."""
        judged = [net.model.get_submodule(name) for name in (*bridge.outputs, bridge.members[0])]
        run = BridgeRun(net, calibration, bridge, output_gradients(at, calibration, judged, "quantised"))
        slots: list[SlotSearch] = []
        for name, (operator, recording) in zip(bridge.members, run.members, strict=True):
            slots += operator_slots(operator, [recording], partial(self._families, net, name))
        return slots, run

    def _families(self, net: PreparedModel, name: str, operator: Operator, side: Side, x: Tensor) -> list[Candidates]:
        """Return the grids of one side, the default first: {layer, channel} x {symmetric, asymmetric} x scales."""
        slot = sides(operator)[SIDES.index(side)]
        factors = torch.cat([multiples(self.alpha, self.beta, self.candidates, x.device), x.new_ones(1)])
        groupings = self._groupings(default_grouping(net, name, operator, side, x), operator, slot, x)
        found: list[Candidates] = [symmetric(group, x, slot.bits, factors) for group in groupings]
        if self.scheme == "search" and slot.role != "weight":
            found += [asymmetric(group, x, slot.bits, factors) for group in groupings]
        return found

    def _groupings(self, default: Grouping, operator: Operator, slot: Operand, x: Tensor) -> list[Grouping]:
        """Return which values of one side may share a scale."""
        if slot.role == "weight" or isinstance(operator, MatMul) or self.granularity == "layer":
            return [default]
        channels = by_index(x, slot.channel_axis)
        grouped = isinstance(operator, Conv2d) and operator.groups > 1
        if isinstance(operator, Conv2d) and operator.groups == operator.in_channels:
            multiplier = operator.out_channels // operator.groups
            assert channels.groups is not None
            channels = replace(channels, judged=channels.groups.repeat_interleave(multiplier))
        if self.granularity == "search":
            return [default, channels]
        return [channels] if grouped else [default]
