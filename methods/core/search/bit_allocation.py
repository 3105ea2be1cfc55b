"""Widths of single operands under an average: the least loss per bit that is saved, greedily.

Weights and activations have an average each, over their values. PTQ-ViT (Liu et al., arXiv 2106.14156) and MPTQ-ViT
(arXiv 2401.14895) differ in what an operand of few bits is said to lose; how they search is not public, so this is our
reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from vitptq.bench.bits import FLOAT_BITS, MOST_MIXED_BITS
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.contracts.reporting import note_details, note_table, report
from vitptq.methods.core.model.operands import MatMul, Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.ranges.estimation import evenly_spread, uniform
from vitptq.methods.core.ranges.shrunk import least_error_range
from vitptq.methods.core.search.module_run import ModuleRun, squared_error, switched
from vitptq.methods.core.search.recording import Operator, images_of, sides
from vitptq.methods.core.sensitivity import fisher

FEWEST = 2
SAMPLE = 2**15
"""Values of an activation that its trial ranges are found on, evenly spread."""

AllotBy = Literal["nuclear", "divergence", "even"]
"""What an operand loses at few bits, everything else in float: the squared error of its operator's output times the
nuclear norm of that output, or the divergence of the predictions. "even" allots the nominal width to all."""


@torch.no_grad()
def allot_bits(net: PreparedModel, calibration: Calibration, by: AllotBy, *, reach: int) -> None:
    """Set the width of every slot, up to `reach` bits beside the nominal one, which no average exceeds.

    The slots have no quantizers afterwards. The image's width stays.
    """
    if by == "even":
        return
    sizes, samples = _seen(net, calibration)
    for slot in net.weights.values():
        sizes[slot], samples[slot] = net.weight(slot).numel(), slot.by_channel(net.weight(slot).detach())
    measure = _divergences if by == "divergence" else _nuclear_errors
    for nominal, kind in ((net.bits.weights, net.weights), (net.bits.activations, net.activations)):
        slots, widths = _counted(kind.values()), _widths(nominal, reach)
        losses = measure(net, calibration, {slot: _grids(slot, samples[slot], widths) for slot in slots})
        found = greedy([sizes[slot] for slot in slots], [losses[slot] for slot in slots], widths, nominal)
        for slot, bits in zip(slots, found, strict=True):
            slot.bits, slot.quantizer = bits, None
    _tell(net, sizes)


def greedy(sizes: Sequence[int], losses: Sequence[Sequence[float]], widths: Sequence[int], average: float) -> list[int]:
    """Return a width per operand whose mean over values is at most `average`, from the widest down.

    `losses[i][k]` is what operand i, of `sizes[i]` values, loses at `widths[k]` (ascending). In each step the operand
    that loses least per bit saved gets the next narrower width; ties: the first.
    """
    places = [len(widths) - 1] * len(sizes)
    budget = average * sum(sizes)
    while sum(size * widths[p] for size, p in zip(sizes, places, strict=True)) > budget:
        rates = [
            ((losses[i][p - 1] - losses[i][p]) / (sizes[i] * (widths[p] - widths[p - 1])), i)
            for i, p in enumerate(places)
            if p > 0
        ]
        places[min(rates)[1]] -= 1
    return [widths[p] for p in places]


def nuclear_norm(x: Tensor) -> Tensor:
    """Return the mean nuclear norm of the matrices (..., rows, columns)."""
    norm: Tensor = torch.linalg.matrix_norm(x, "nuc").mean()
    return norm


def _counted(slots: Iterable[Operand]) -> list[Operand]:
    """Return the slots that an average counts: all that are quantised but the image's."""
    return [slot for slot in slots if slot.bits != FLOAT_BITS and slot.role != "stem_input"]


def _widths(nominal: int, reach: int) -> list[int]:
    return list(range(max(FEWEST, nominal - reach), min(MOST_MIXED_BITS, nominal + reach) + 1))


def _grids(slot: Operand, values: Tensor, widths: Iterable[int]) -> list[Quantizer]:
    """Return a grid of least squared error per width."""
    axis, granularity = (slot.channel_axis, "channel") if slot.role == "weight" else (None, "tensor")
    return [
        uniform(*least_error_range(values, bits), bits, axis=axis, granularity=granularity)  # type: ignore[arg-type]
        for bits in widths
    ]


def _seen(net: PreparedModel, calibration: Calibration) -> tuple[dict[Operand, int], dict[Operand, Tensor]]:
    """Return how many values an image gives each activation slot, and some of them, (1, values)."""
    sizes: dict[Operand, int] = {}
    parts: dict[Operand, list[Tensor]] = {}
    batches = list(calibration.batches())

    def watch(slot: Operand, x: Tensor) -> None:
        sizes[slot] = sizes.get(slot, 0) + x.numel()
        values = x.flatten()
        parts.setdefault(slot, []).append(values[evenly_spread(len(values), SAMPLE // len(batches), x.device)])

    net.switch(False)
    for batch in batches:
        with watching(net.activations, watch):
            calibration.forward(net.model, batch)
    images = sum(images_of(batch) for batch in batches)
    return {s: -(-n // images) for s, n in sizes.items()}, {s: torch.cat(some)[None] for s, some in parts.items()}


Trial = Mapping[Operand, Sequence[Quantizer]]
"""The grids of each operand that are tried, the narrowest first."""


def _divergences(net: PreparedModel, calibration: Calibration, trial: Trial) -> dict[Operand, list[float]]:
    batches = list(calibration.batches())
    net.switch(False)
    expected = [fisher.outputs(calibration.forward(net.model, batch)) for batch in batches]

    def divergence() -> Tensor:
        pairs = zip(batches, expected, strict=True)
        apart = [fisher.divergence(fisher.outputs(calibration.forward(net.model, b)), e) for b, e in pairs]
        return torch.stack(apart).sum()

    return {slot: list(found) for slot, found in _tried(net, trial, lambda _: divergence)}


def _nuclear_errors(net: PreparedModel, calibration: Calibration, trial: Trial) -> dict[Operand, list[float]]:
    operators = [module for module in net.model.modules() if isinstance(module, Operator)]
    owner = {slot: operator for operator in operators for slot in sides(operator)}

    def loss_of(slot: Operand) -> Callable[[], Tensor]:
        operator = owner[slot]
        run = ModuleRun(net, calibration, operator)
        if not run.calls:
            return lambda: torch.zeros(())
        norm = torch.stack([nuclear_norm(_matrices(operator, call.target)) for call in run.calls]).mean()
        return lambda: run.loss(squared_error) * norm

    return {slot: list(found) for slot, found in _tried(net, trial, loss_of)}


def _matrices(operator: Operator, output: Tensor) -> Tensor:
    """Arrange an operator's output as (..., positions, channels)."""
    if isinstance(operator, MatMul) or operator.input_operand.channel_axis == -1:
        return output if output.ndim > 2 else output[None]
    return output.flatten(2).transpose(1, 2)


def _tried(
    net: PreparedModel, trial: Trial, loss_of: Callable[[Operand], Callable[[], Tensor]]
) -> Iterable[tuple[Operand, list[float]]]:
    for done, (slot, grids) in enumerate(trial.items()):
        report("losses at each width", done, len(trial))
        loss, losses = loss_of(slot), []
        with switched(net, [slot]):
            for grid in grids:
                slot.bits, slot.quantizer = grid.bits, grid
                losses.append(loss())
        slot.quantizer = None
        yield slot, torch.stack(losses).tolist()


def _tell(net: PreparedModel, sizes: Mapping[Operand, int]) -> None:
    slots = _counted(net.operands.values())
    note_table("widths", [{"slot": s.name, "bits": s.bits, "values": sizes[s]} for s in slots])
    for what, kind in (("weights", net.weights), ("activations", net.activations)):
        counted = _counted(kind.values())
        if counted:
            average = sum(sizes[s] * s.bits for s in counted) / sum(sizes[s] for s in counted)
            note_details(f"average bits of {what}", round(average, 4))
