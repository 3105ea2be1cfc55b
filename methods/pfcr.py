"""PFCR in our reading: reconstruction from the finest units to groups of blocks; OASQ's unit as another schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import nn

from vitptq import (
    BitSpec,
    Calibration,
    Log2,
    PreparedModel,
    RoundingMethod,
    all_units,
    block_units,
    calibrated,
    reconstruct,
)
from vitptq.bench.errors import BadInput
from vitptq.methods.core.reconstruct import composite_units

Schedule = Literal["progressive", "fine", "blocks", "groups", "oasq"]
Grain = Literal["halves", "parts", "blocks", "groups"]

PASSES: dict[Schedule, tuple[Grain, ...]] = {
    "progressive": ("halves", "blocks", "groups"),
    "fine": ("halves",),
    "blocks": ("blocks",),
    "groups": ("groups",),
}
"""The units of each pass over the model; OASQ's depend on the model."""


@dataclass(frozen=True)
class PFCR(RoundingMethod):
    """Rounding and step sizes are learned in fine units first, and go on in coarser ones.

    1. Finest units: attention with its shortcut, MLP with its shortcut. Each learns to put out what it does in float.
    2. The same variables go on in whole blocks, then in groups of blocks. Rounding stays soft until the last pass,
       which makes every weight choose; a unit that a pass made worse goes back to what it was.

    `schedule`: "progressive", one pass alone ("fine", "blocks", "groups"), or OASQ's rule ("oasq": `group` consecutive
    blocks in a model of one stage; attention, output projection and MLP apart in one of several stages).
    """

    name = "pfcr"
    title = "PFCR (our reading)"
    fidelity = "inferred"
    inferred = (
        "the body is not public: known are the finest units, that they are merged and reconstructed again, two "
        "progressive stages, uniform grids, and log2 after softmax",
        "loss: squared error of the unit's output on quantised input, plus AdaRound's term in the last pass",
        "three passes, equal steps per unit and pass; groups of three blocks (OASQ's best), never across stages",
        "the two stages are read as soft rounding in all passes but the last, and hard rounding there",
        "starts from uniform grids of least squared error; layers outside the blocks are trained in every pass",
        'schedule="oasq" (Ma et al., ICML 2024) is a rule for units alone: its text is not public, and here it has '
        "PFCR's grids, loss and steps",
        "a unit whose error on the calibration set grew keeps its state before training",
    )
    paper = "Ding et al., PFCR, 2024, arXiv 2412.14633"
    trial: ClassVar = {"iterations": 4}

    schedule: Schedule = "progressive"
    group: int = 3
    """Blocks of a group."""
    softmax: Literal["log2", "uniform"] = "log2"
    """Grid of the attention probabilities."""
    scale_rate: float = 4e-5
    quantised_probability: float = 1.0
    """Of an activation's value to be quantised while its unit is trained; 0.5 is QDrop's."""

    def __post_init__(self) -> None:
        if self.group < 2:
            raise BadInput(f"group={self.group} of PFCR: a group has 2 blocks or more")

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        net, twin = calibrated(model, calibration, bits)
        if self.softmax == "log2":
            set_log2(net)
        settings = replace(
            self.reconstruction(calibration), scale_rate=self.scale_rate, input="quantised",
            quantised_probability=self.quantised_probability,
        )  # fmt: skip
        passes = self.passes(net)
        for number, grain in enumerate(passes, 1):
            last = number == len(passes)
            own = settings if last else replace(settings, hard=False, rounding_weight=0.0)
            with self.units([net, twin], calibration, grain) as units:
                reconstruct(net, twin, calibration, own, units=units, tag=f"pass {number}, {grain}")
        return net.model

    def passes(self, net: PreparedModel) -> tuple[Grain, ...]:
        """Return the units of each pass, by their kind."""
        if self.schedule != "oasq":
            return PASSES[self.schedule]
        return ("groups",) if composite_units.stages(net) == 1 else ("parts",)

    @contextmanager
    def units(self, nets: Sequence[PreparedModel], calibration: Calibration, grain: Grain) -> Iterator[list[str]]:
        """Give the models units of one kind inside; yields their names with those of the layers outside the blocks."""
        blocks = block_units(nets[1])
        outside = [name for name in all_units(nets[1]) if name not in blocks]
        with self._blocks(nets, calibration, grain) as names:
            yield [*names, *outside]

    def _blocks(
        self, nets: Sequence[PreparedModel], calibration: Calibration, grain: Grain
    ) -> AbstractContextManager[list[str]]:
        if grain == "halves":
            return composite_units.halves(nets)
        if grain == "parts":
            return composite_units.parts(nets)
        if grain == "groups":
            return composite_units.joined(nets, composite_units.chains(nets[1], calibration, self.group))
        return nullcontext(block_units(nets[1]))


def set_log2(net: PreparedModel) -> None:
    """Put attention probabilities on powers of two from 1 downwards."""
    for slot in net.activations.values():
        if slot.role == "softmax" and slot.quantizer is not None:
            device = next(slot.quantizer.buffers()).device
            slot.quantizer = Log2(slot.bits, torch.ones((), device=device))
