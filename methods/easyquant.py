"""EasyQuant: scales by the cosine similarity of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from vitptq import (
    BitSpec,
    Calibration,
    Method,
    Operand,
    PreparedModel,
    Quantizer,
    RunningMinMax,
    observe_activations,
    observe_weights,
    prepare,
    run_time,
)
from vitptq.methods.core.model.operand_kinds import Kind, of_kinds
from vitptq.methods.core.model.operands import Convolution
from vitptq.methods.core.search.alternating import (
    SlotSearch,
    alternate,
    at_own_output,
    operator_slots,
)
from vitptq.methods.core.search.candidates import (
    Candidates,
    Scales,
    by_index,
    default_grouping,
    multiples,
    symmetric,
    whole_tensor,
)
from vitptq.methods.core.search.objective import ALL_POSITIONS, CHANNELS, POSITIONS, Cosine
from vitptq.methods.core.search.recording import (
    MEGABYTE,
    SIDES,
    Operator,
    Recording,
    Side,
    record,
    recordings,
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
    form: Literal["vit", "code_eq"] = "vit"
    """"code_eq" is the released code's search for convolutional networks: first all weights, per output channel, then
    all inputs, per tensor, by the cosine of each image's channel map or whole output; candidates only widen the range.
    It is sequential and has its own candidates."""
    min_max: tuple[Kind, ...] = ()
    """Kinds of operands that get asymmetric min-max ranges in the end: to find out which of them its scales harm."""
    memory_mb: int = run_time(256)
    """What the candidates of one step may take; more makes the search faster, not different."""

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the scales of greatest similarity."""
        net = prepare(model, bits)
        if self.form == "code_eq":
            return widened(net, calibration, self.memory_mb * MEGABYTE)
        done: list[Operand] = []
        for name, operator, recorded in recordings(net, calibration, self.memory_mb * MEGABYTE):
            parts = _after(net, calibration, operator, recorded, done) if self.sequential else recorded
            slots = operator_slots(operator, parts, partial(self._families, net, name))
            judge = at_own_output(parts, slots, self.memory_mb * MEGABYTE, partial(self._objective, operator))
            for slot, quantizer in alternate(slots, judge, self.rounds).items():
                slot.quantizer = quantizer
                done.append(slot)
        if self.min_max:
            net.switch(False)
            exchanged = of_kinds(net, self.min_max)
            observe_weights(exchanged)
            observe_activations(exchanged, calibration, RunningMinMax)
        return net.switch(True)

    def _families(
        self, net: PreparedModel, name: str, operator: Operator, side: Side, x: Tensor
    ) -> Sequence[Candidates]:
        slot = sides(operator)[SIDES.index(side)]
        factors = multiples(self.alpha, self.beta, self.candidates, x.device)
        return [symmetric(default_grouping(net, name, operator, side, x), x, slot.bits, factors)]

    def _objective(self, operator: Operator, slot: SlotSearch, candidates: Candidates) -> Cosine:
        """Return the similarity that one side is judged by.

        One channel of a token is a number, and the cosine of two numbers is their signs' product: convolution weights,
        whose channels are judged apart, are compared over positions.
        """
        if isinstance(operator, Convolution) and slot.side == "first":
            return Cosine(axes=POSITIONS)
        axes = ALL_POSITIONS if not candidates.by_head else POSITIONS + CHANNELS
        return Cosine(candidates.judged, candidates.by_head, CHANNELS if self.similarity == "token" else axes)


def _after(
    net: PreparedModel,
    calibration: Calibration,
    operator: Operator,
    parts: Sequence[Recording],
    done: Sequence[Operand],
) -> list[Recording]:
    """Return the recordings with what their operator reads when only the slots `done` quantise."""
    net.switch(False)
    for slot in done:
        slot.on = True
    (now,) = record(net, calibration, [operator])
    return [replace(part, output=before.output) for part, before in zip(now, parts, strict=True)]


def widened(net: PreparedModel, calibration: Calibration, memory: int) -> nn.Module:
    """Return the released code's search (specification, sections 2 and 4): all weights first, then all activations.

    Everything runs quantised, at the min-max scales that it starts from until its own were found; candidates only widen
    the range.
    """
    for _, operator, parts in recordings(net, calibration, memory):
        for each in operator_slots(operator, parts, _widening):
            each.operand.quantizer = each.quantizer
    for weights in (True, False):
        objective = Cosine(axes=POSITIONS if weights else ALL_POSITIONS)
        for _, operator, parts in recordings(net, calibration, memory):
            for i, slot in enumerate(sides(operator)):
                if (slot.role == "weight") == weights:
                    net.switch(True)
                    (seen,) = record(net, calibration, [operator])
                    now = [replace(part, output=before.output) for part, before in zip(seen, parts, strict=True)]
                    slot.quantizer = _widened(operator, now, i, objective, memory)
    return net.switch(True)


def _widened(operator: Operator, parts: Sequence[Recording], i: int, objective: Cosine, memory: int) -> Quantizer:
    """Return the best quantizer of an operator's first (0) or second (1) side, the other side's being as it is."""
    slots = operator_slots(operator, parts, _widening)
    fixed = slots[1 - i].operand.quantizer
    assert fixed is not None
    slots[1 - i].quantizer = fixed
    slots[i].run(at_own_output(parts, slots, memory, lambda *_: objective))
    return slots[i].quantizer


def _widening(operator: Operator, side: Side, x: Tensor) -> list[Scales]:
    slot = sides(operator)[SIDES.index(side)]
    weight = slot.role == "weight"
    group = by_index(x, 0) if weight else whole_tensor()
    start = group.starts(x, slot.bits)
    return [Scales(slot.bits, group, start, widened_weights(start) if weight else widened_activations(start))]


def widened_weights(start: Tensor) -> Tensor:
    """Return the start scale D0 and 98 wider ones: D = 1 / m, m in linspace(1, S, 100) without its ends, S = 1 / D0."""
    inner = torch.linspace(0, 1, 100, device=start.device)[1:-1, None]
    return torch.cat([start[None], 1 / (1 + inner * (1 / start - 1))])


def widened_activations(start: Tensor) -> Tensor:
    """Return the start scale D0 and 198 wider ones: D0 / m, m in linspace(0.8, 1, 200) without its ends."""
    inner = torch.linspace(0.8, 1, 200, device=start.device)[1:-1, None]
    return torch.cat([start[None], start / inner])
