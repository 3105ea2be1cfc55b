"""EasyQuant: scales by the cosine similarity of outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from bench.bits import BitSpec
from bench.protocol import Calibration, Method
from methods.core.explicit import Explicit, explicit
from methods.core.operands import Convolution
from methods.core.search import (
    MEGABYTE,
    Grouping,
    Operator,
    Score,
    Side,
    Trace,
    cosine,
    grouping,
    multiples,
    operators,
    record,
    search,
    sides,
)


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
    memory_mb: int = 256
    """What the candidates of one step may take; more makes the search faster, not different."""

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the scales of greatest similarity."""
        net = explicit(model, bits)
        for name, operator in operators(net, calibration).items():
            trace = self._trace(net, calibration, operator)
            first, second = self._search(net, name, trace)
            slots = sides(operator)
            for slot, (group, scale) in zip(slots, (first, second), strict=True):
                slot.quantizer = group.quantizer(scale, slot.bits)
                slot.on = self.sequential
        return net.switch(True)

    def _trace(self, net: Explicit, calibration: Calibration, operator: Operator) -> Trace:
        """Return the operator's float output, with its inputs from the operators before as they are now."""
        seen = record(net, calibration, operator)
        if not self.sequential:
            return seen
        on = [operand for operand in net.operands.values() if operand.on]
        net.switch(False)
        true = record(net, calibration, operator)
        for operand in on:
            operand.on = True
        return replace(seen, output=true.output)

    def _search(self, net: Explicit, name: str, trace: Trace) -> tuple[tuple[Grouping, Tensor], ...]:
        """Return grouping and scales of both sides, searched in turn (specification, section 4, step 3)."""
        slots = sides(trace.operator)
        names: tuple[Side, Side] = ("first", "second")
        tensors = [trace.first, trace.second]
        groups = [grouping(net, name, trace.operator, side, x) for side, x in zip(names, tensors, strict=True)]
        starts = [g.starts(x, slot.bits) for g, x, slot in zip(groups, tensors, slots, strict=True)]
        scales = list(starts)
        for _ in range(self.rounds):
            for i, side in enumerate(names):
                other = groups[1 - i].quantizer(scales[1 - i], slots[1 - i].bits)(tensors[1 - i])
                grid = multiples(starts[i], self.alpha, self.beta, self.candidates)
                score = self._score(trace.operator, side, groups[i])
                quantised = groups[i].candidates(grid, slots[i].bits)
                memory = self.memory_mb * MEGABYTE
                best = search(trace, side, other, len(grid), quantised, score, memory)
                scales[i] = grid.gather(0, best[None])[0]
        return (groups[0], scales[0]), (groups[1], scales[1])

    def _score(self, operator: Operator, side: Side, group: Grouping) -> Score:
        """Return the similarity that one side is judged by.

        One channel of a token is a number, and the cosine of two numbers is their signs' product: convolution weights,
        whose channels are judged apart, are compared over positions.
        """
        by_head = group.granularity == "head"
        if isinstance(operator, Convolution) and side == "first":
            return cosine((-2,), None, by_head=False)
        rows = group.groups if group.axis == 0 else None
        axes = (-1,) if self.similarity == "token" else (-2, -1) if by_head else (-3, -2, -1)
        return cosine(axes, rows, by_head=by_head)
