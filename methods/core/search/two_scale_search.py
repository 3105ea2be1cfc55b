"""Two steps behind softmax and GELU and one elsewhere, operator by operator: what TSPTQ-ViT and MPTQ-ViT share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from vitptq.bench.bits import Role
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.contracts.reporting import note_table, report
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.quantizers.two_scale import Regions, TwoScale, two_scale
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search.module_run import ModuleRun, squared_error, stretched
from vitptq.methods.core.search.recording import Operator, sides


@dataclass(frozen=True)
class TwoScaleSearch:
    """What each slot may become, and how often the slots of an operator take turns."""

    regions: Mapping[Role, Regions]
    """The slots with two steps, by their role."""
    factors: Sequence[float]
    """Of the range of a slot with one step."""
    two_scale_factors: Sequence[float]
    shifts: int
    """Ratios 2^0 .. 2^(shifts - 1) of the two steps are tried."""
    rounds: int

    def run(self, net: PreparedModel, calibration: Calibration) -> None:
        """Give the slots of every operator the grids of least squared error of its output, on float inputs.

        They start from the uniform grids that they have.
        """
        operators = {name: module for name, module in net.model.named_modules() if isinstance(module, Operator)}
        for done, (_, operator) in enumerate(operators.items()):
            report("scale search", done, len(operators))
            slots = [slot for slot in sides(operator) if slot.quantizer is not None]
            ModuleRun(net, calibration, operator).search(slots, self.candidates, squared_error, self.rounds)
        found = {slot.name: slot.quantizer for slot in net.activations.values()}
        rows = [{"slot": name, "m": q.shift} for name, q in found.items() if isinstance(q, TwoScale)]
        note_table("two scales", rows, "The coarse step of a slot is 2^m times its fine one.")

    def candidates(self, slot: Operand) -> list[Quantizer]:
        """Return what a slot may become."""
        regions = self.regions.get(slot.role)
        if regions is None or not isinstance(slot.quantizer, Uniform):
            return stretched(slot.quantizer, self.factors)
        low, high = slot.quantizer.grid()[0][[0, -1]]
        pairs = [(factor, shift) for shift in range(self.shifts) for factor in self.two_scale_factors]
        return [two_scale(low * f, high * f, slot.bits, shift, regions=regions) for f, shift in pairs]


def narrowing(least: float, count: int) -> list[float]:
    """Return `count` factors from 1 down to `least`, evenly spread."""
    return [float(x) for x in torch.linspace(1.0, least, count, dtype=torch.float64)]
