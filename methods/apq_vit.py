"""APQ-ViT in our reading: scales by the large errors at the block's output, softmax on a grid up to its largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitptq import (
    BadInput,
    BitSpec,
    Calibration,
    Method,
    Operand,
    PreparedModel,
    Quantizer,
    Uniform,
    Unsupported,
    all_units,
    prepare,
    report,
    watching,
)
from vitptq.methods.core.search.candidates import default_grouping, multiples
from vitptq.methods.core.search.module_run import Call, Loss, ModuleRun, stretched
from vitptq.methods.core.search.recording import SIDES, Operator, sides
from vitptq.methods.core.search.uniform_search import refuse_float_sides

SAMPLE = 2**14
"""Evenly spread errors that say where the lowest share of them ends."""


@dataclass(frozen=True)
class APQViT(Method):
    """Each layer's scales by the weighted error at the output of its whole block, without the small errors.

    1. Softmax is quantised uniformly and unsigned on [0, max]: large probabilities keep their places (Matthew-effect
       preserving quantisation). Everything else starts from symmetric min-max grids, as in PTQ4ViT.
    2. Of 100 multiples of each scale the one with the least sum of m (G dO)^2 over the block's output is taken, G being
       the gradient of the predictions' divergence there. m is 0 for the `eliminated` percent smallest |G dO| (bottom
       elimination). By turns for both sides of each operator; the rest of the block is in float.
    """

    name = "apq-vit"
    title = "APQ-ViT (our reading)"
    fidelity = "inferred"
    inferred = (
        "the equations are not public: known are calibration by the block's output, that its small errors are dropped, "
        "and a linear softmax grid that keeps the power law",
        "the search is PTQ4ViT's (multiples, rounds, granularity, gradients), but all scales of a slot are stretched "
        "by one factor, because heads and rows cannot be judged apart at the block's output",
        "the share of eliminated errors; it is taken among the errors of one candidate and batch, from an evenly "
        "spread part of them",
        "layers outside the blocks are judged by their own output",
        "softmax is not searched: its grid ends at the largest value seen",
    )
    paper = "Ding et al., APQ-ViT, ACM MM 2022, arXiv 2303.14341"
    trial: ClassVar = {"candidates": 4, "rounds": 1}

    eliminated: float = 25.0
    """Percent of the errors, the smallest ones, that do not count."""
    weighted: bool = True
    """Weight errors with G; without it G = 1."""
    alpha: float = 0.01
    beta: float = 1.2
    candidates: int = 100
    rounds: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.eliminated < 100 or min(self.candidates, self.rounds) < 1:
            raise BadInput(f"{self}: eliminated is 0 up to below 100, candidates and rounds are 1 or more")

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the scales of least error at the blocks' outputs."""
        net = prepare(model, bits)
        refuse_float_sides(net, self.title)
        start(net, calibration)
        factors = multiples(self.alpha, self.beta, self.candidates).tolist()
        loss, units = block_error(self.eliminated), all_units(net)
        for done, name in enumerate(units):
            report("scale search", done, len(units))
            unit = net.model.get_submodule(name)
            run = ModuleRun(net, calibration, unit, gradients=self.weighted)
            for operator in [module for module in unit.modules() if isinstance(module, Operator)]:
                run.search(sides(operator), partial(candidates, factors=factors), loss, self.rounds)
        return net.switch(True)


def candidates(slot: Operand, factors: Sequence[float]) -> list[Quantizer]:
    """Return the multiples of a slot's scale; none behind softmax, whose grid stays."""
    return [] if slot.role == "softmax" else stretched(slot.quantizer, factors)


def block_error(eliminated: float) -> Loss:
    """Return the sum of (G dO)^2 without the `eliminated` percent smallest |G dO|, of one batch."""

    def loss(output: Tensor, call: Call) -> Tensor:
        error = output - call.target
        if call.gradient is not None:
            error = error * call.gradient
        error = error.flatten()
        if not eliminated:
            return error.square().sum()
        some = error[:: max(1, len(error) // SAMPLE)].abs()
        last = some.kthvalue(max(1, round(eliminated / 100 * len(some)))).values
        return error.square().where(error.abs() > last, 0.0).sum()

    return loss


def start(net: PreparedModel, calibration: Calibration) -> None:
    """Set every slot to its min-max grid: symmetric, in PTQ4ViT's granularity; for softmax unsigned."""
    places = {
        slot: (name, module, side)
        for name, module in net.model.named_modules()
        if isinstance(module, Operator)
        for slot, side in zip(sides(module), SIDES, strict=True)
    }

    def watch(slot: Operand, x: Tensor) -> None:
        name, operator, side = places[slot]
        if slot.role == "softmax":
            _widen(slot, x.amax().reshape(1) / (2**slot.bits - 1), signed=False)
        else:
            group = default_grouping(net, name, operator, side, x)
            scale = group.spread(group.starts(x, slot.bits))
            _widen(slot, scale, signed=True, axis=group.axis, granularity=group.granularity)

    net.switch(False)
    with watching(net.operands, watch):
        net.run(calibration)
    unseen = sorted(name for name, slot in net.operands.items() if slot.quantizer is None)
    if unseen:
        raise Unsupported(f"{unseen[0]} did not run on the calibration set, so it has no range")


def _widen(slot: Operand, scale: Tensor, **grid: object) -> None:
    """Give a slot the larger of its scales and these."""
    if isinstance(slot.quantizer, Uniform):
        scale = scale.maximum(slot.quantizer.scale)
    slot.quantizer = Uniform(slot.bits, scale, torch.zeros_like(scale), **grid)  # type: ignore[arg-type]
