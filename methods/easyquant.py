"""EasyQuant: scales by the cosine similarity of outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, Method, run_time
from vitptq.methods.core.model.operands import Convolution, Operand
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.search.alternating import Scales, alternate
from vitptq.methods.core.search.objective import ALL_POSITIONS, CHANNELS, POSITIONS, Cosine
from vitptq.methods.core.search.recording import (
    SIDES,
    Operator,
    Side,
    Trace,
    in_batches,
    operators,
    record,
    record_all,
    sides,
)
from vitptq.methods.core.search.side_search import MEGABYTE, Grouping, grouping, search


@dataclass(frozen=True)
class EasyQuant(Method):
    """Symmetric scales, operator after operator, whose output is most similar (cosine) to the float output.

    For each linear layer, convolution and attention product in forward order: 100 multiples of the min-max scale of the
    weight (of a product: of its left factor) with the input fixed, then the same for the input. With `sequential`, an
    operator sees inputs that the operators before it have already quantised. The softmax output is non-negative and
    still gets a signed grid, as in the published form.
    """

    name = "easyquant"
    title = "EasyQuant"
    fidelity = "inferred"
    inferred = (
        "the form for transformers (linear layers and attention products) is PTQ4ViT's re-implementation; "
        "the original is for convolutional networks",
        "sequential calibration with scales per tensor (products per head, joint q, k, v layers three, "
        "convolution weights per output channel); the code behind published ViT rows is not known",
        "the candidates end at 1.2 times the min-max scale, as in ViT work (the paper's end is 2)",
        "convolution weights are compared per image and channel map, everything else per token",
        "not compared with the official code",
    )
    paper = "Wu et al., EasyQuant, 2020, arXiv 2006.16669; the form of Yuan et al., PTQ4ViT, arXiv 2111.12293"

    alpha: float = 0.5
    beta: float = 1.2
    candidates: int = 100
    rounds: int = 1
    sequential: bool = True
    similarity: Literal["token", "tensor"] = "token"
    """Cosine over the channels of each token, or over each image's whole output."""
    form: Literal["vit", "code_eq"] = "vit"
    """"code_eq" is the released code's search for convolutional networks: first all weights, per output channel, then
    all inputs, per tensor, by the cosine of each image's channel map or whole output; candidates only widen the range.
    It is sequential and has its own candidates."""
    memory_mb: int = run_time(256)
    """What the candidates of one step may take; more makes the search faster, not different."""

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the scales of greatest similarity."""
        net = prepare(model, bits)
        found = operators(net, calibration)
        if self.form == "code_eq":
            Widening(net, calibration, found, self.memory_mb * MEGABYTE).run()
            return net.switch(True)
        done: list[Operand] = []
        for names in in_batches(net, calibration, found, self.memory_mb * MEGABYTE):
            net.switch(False)
            true = record_all(net, calibration, [found[name] for name in names])
            for slot in done:
                slot.on = self.sequential
            for name, trace in zip(names, true, strict=True):
                if self.sequential:
                    trace = replace(record(net, calibration, found[name]), output=trace.output)
                self._set(net, name, found[name], trace)
                done += sides(found[name])
        return net.switch(True)

    def _set(self, net: PreparedModel, name: str, operator: Operator, trace: Trace) -> None:
        """Set the quantizers of both slots, searched in turn (specification, section 4, step 3)."""
        groups = [grouping(net, name, operator, side, getattr(trace, side)) for side in SIDES]
        options = [
            Scales(slot.bits, group, getattr(trace, side), self.alpha, self.beta, self.candidates)
            for slot, side, group in zip(sides(operator), SIDES, groups, strict=True)
        ]

        def objective(i: int) -> Cosine:
            return self._objective(operator, SIDES[i], groups[i])

        found = alternate(trace, options, objective, self.rounds, self.memory_mb * MEGABYTE)
        for slot, quantizer in zip(sides(operator), found, strict=True):
            slot.quantizer = quantizer
            slot.on = self.sequential

    def _objective(self, operator: Operator, side: Side, group: Grouping) -> Cosine:
        """Return the similarity that one side is judged by.

        One channel of a token is a number, and the cosine of two numbers is their signs' product: convolution weights,
        whose channels are judged apart, are compared over positions.
        """
        by_head = group.granularity == "head"
        if isinstance(operator, Convolution) and side == "first":
            return Cosine(axes=POSITIONS)
        rows = group.groups if group.axis == 0 else None
        axes = CHANNELS if self.similarity == "token" else POSITIONS + CHANNELS if by_head else ALL_POSITIONS
        return Cosine(rows, by_head, axes)


@dataclass
class Widening:
    """The released code's search (specification, sections 2 and 4): all weights first, then all activations.

    Everything runs quantised, at the min-max scales that it starts from until its own were found.
    """

    net: PreparedModel
    calibration: Calibration
    found: dict[str, Operator]
    memory: int

    def run(self) -> None:
        """Set the quantizers of all slots."""
        for _, operator, true in self._true():
            for slot, side in zip(sides(operator), SIDES, strict=True):
                x = getattr(true, side)
                group = self._grouping(slot, x)
                slot.quantizer = group.quantizer(group.starts(x, slot.bits), slot.bits)
        for weights in (True, False):
            for _, operator, true in self._true():
                for i, slot in enumerate(sides(operator)):
                    if (slot.role == "weight") == weights:
                        self._search(operator, true.output, i)

    def _true(self) -> Iterator[tuple[str, Operator, Trace]]:
        """Yield every operator with what passes through it in the float model; in between, all slots are on."""
        for names in in_batches(self.net, self.calibration, self.found, self.memory):
            self.net.switch(False)
            true = record_all(self.net, self.calibration, [self.found[name] for name in names])
            self.net.switch(True)
            yield from ((name, self.found[name], trace) for name, trace in zip(names, true, strict=True))

    def _grouping(self, slot: Operand, x: Tensor) -> Grouping:
        if slot.role != "weight":
            return Grouping(None, None, "tensor")
        return Grouping(0, torch.arange(len(x), device=x.device), "channel")

    def _search(self, operator: Operator, output: Tensor, i: int) -> None:
        """Set the scale of side `i` with the operands before, and the other side, as they are now."""
        slot, other = sides(operator)[i], sides(operator)[1 - i]
        trace = replace(record(self.net, self.calibration, operator), output=output)
        x, fixed = getattr(trace, SIDES[i]), getattr(trace, SIDES[1 - i])
        group, weight = self._grouping(slot, x), slot.role == "weight"
        start = group.starts(x, slot.bits)
        scales = widened_weights(start) if weight else widened_activations(start)
        objective = Cosine(axes=POSITIONS if weight else ALL_POSITIONS)
        best = search(
            trace, SIDES[i], other(fixed), len(scales), group.candidates(scales, slot.bits), objective, self.memory
        )
        slot.quantizer = group.quantizer(scales.gather(0, best.place[None])[0], slot.bits)


def widened_weights(start: Tensor) -> Tensor:
    """Return the start scale D0 and 98 wider ones: D = 1 / m, m in linspace(1, S, 100) without its ends, S = 1 / D0."""
    inner = torch.linspace(0, 1, 100, device=start.device)[1:-1, None]
    return torch.cat([start[None], 1 / (1 + inner * (1 / start - 1))])


def widened_activations(start: Tensor) -> Tensor:
    """Return the start scale D0 and 198 wider ones: D0 / m, m in linspace(0.8, 1, 200) without its ends."""
    inner = torch.linspace(0.8, 1, 200, device=start.device)[1:-1, None]
    return torch.cat([start[None], start / inner])
