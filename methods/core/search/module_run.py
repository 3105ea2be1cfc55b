"""The quantizers of least loss at the output of a module, which may hold more layers than the one that is searched.

A plain loop: the module runs once per candidate. What makes searches at an operator's own output faster (`alternating`)
does not work here, because a block's output is no quadratic form of a layer's, and some losses are no sums over rows.
Batches stay apart, so images may differ in size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.model.watched_calls import watched_calls
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search.recording import images_of
from vitptq.methods.core.sensitivity.fisher import GRADIENT_BATCH, first_tensor, output_gradient_parts

CandidatesOf = Callable[[Operand], Sequence[Quantizer]]
"""A slot to what it may become, none to leave it as it is."""


@dataclass(frozen=True)
class Call:
    """What a module reads and puts out in float for one batch, and dL/d output where it was asked for."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: Tensor
    gradient: Tensor | None = None


Loss = Callable[[Tensor, Call], Tensor]
"""(what the module puts out now, the call) to a number."""


class ModuleRun:
    """A module on the calibration images, batch by batch; of one that runs several times per batch, the first call."""

    def __init__(self, net: PreparedModel, calibration: Calibration, module: nn.Module, *, gradients: bool = False):
        """Record the module in float; with `gradients`, those of the predictions' divergence at the model as set."""
        self.net, self.module = net, module
        found = iter(_gradients(net, calibration, module)) if gradients else None
        net.switch(False)
        self.calls = [
            Call(args, kwargs, target, None if found is None else next(found))
            for args, kwargs, target in _recorded(net, calibration, module)
        ]

    @torch.no_grad()
    def loss(self, loss: Loss) -> Tensor:
        """Return the loss of the module as it is switched now, summed over the batches, in float64."""
        return torch.stack([loss(self.output(call), call).double() for call in self.calls]).sum()

    def output(self, call: Call) -> Tensor:
        """Return what the module puts out as it is switched now."""
        return first_tensor(self.module(*call.args, **call.kwargs))

    def search(self, slots: Sequence[Operand], candidates: CandidatesOf, loss: Loss, rounds: int) -> None:
        """Give slots the candidates of least loss, one after the other in rounds, all of them on; ties: the first."""
        options = {slot: list(candidates(slot)) for slot in slots} if self.calls else {}
        with switched(self.net, slots):
            for _ in range(rounds):
                for slot, quantizers in options.items():
                    if quantizers:
                        slot.quantizer = self._best(slot, quantizers, loss)

    def _best(self, slot: Operand, quantizers: Sequence[Quantizer], loss: Loss) -> Quantizer:
        losses = []
        for quantizer in quantizers:
            slot.quantizer = quantizer
            losses.append(self.loss(loss))
        found = torch.stack(losses).tolist()  # a GPU waits once per slot, not per candidate
        return quantizers[found.index(min(found))]


@contextmanager
def switched(net: PreparedModel, slots: Iterable[Operand]) -> Iterator[None]:
    """Let these slots alone quantise inside; all are off afterwards."""
    net.switch(False)
    for slot in slots:
        slot.on = True
    try:
        yield
    finally:
        net.switch(False)


def squared_error(output: Tensor, call: Call) -> Tensor:
    """Return the sum of the squared errors."""
    return (output - call.target).square().sum()


def stretched(quantizer: Quantizer | None, factors: Iterable[float]) -> list[Quantizer]:
    """Return a uniform grid with its range stretched by each factor; the zero points stay."""
    if not isinstance(quantizer, Uniform):
        return []
    options = {"axis": quantizer.axis, "granularity": quantizer._granularity, "signed": quantizer.low < 0}
    return [
        Uniform(quantizer.bits, quantizer.scale * factor, quantizer.zero_point, **options)  # type: ignore[arg-type]
        for factor in factors
    ]


def _recorded(
    net: PreparedModel, calibration: Calibration, module: nn.Module
) -> list[tuple[tuple[Any, ...], dict[str, Any], Tensor]]:
    found: list[tuple[tuple[Any, ...], dict[str, Any], Tensor]] = []

    def take(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if first_tensor(output).numel():  # a detector without proposals runs its heads on nothing
            found.append((args, kwargs, first_tensor(output)))

    for batch in calibration.batches():
        with torch.no_grad(), watched_calls({module: 1}, take):
            calibration.forward(net.model, batch)
    return found


def _gradients(net: PreparedModel, calibration: Calibration, module: nn.Module) -> list[Tensor | None]:
    """Return dL/dO batch by batch, over its largest value; None for each batch where G says nothing."""
    (parts,) = output_gradient_parts(net, calibration, [module], "quantised", first_call=True)
    counts = [-(-images_of(batch) // GRADIENT_BATCH) for batch in calibration.batches()]
    largest = max((float(part.abs().amax()) for part in parts), default=0.0)
    if sum(counts) != len(parts) or not 0 < largest < float("inf"):
        return [None] * len(counts)
    waiting = iter(parts)
    return [torch.cat([next(waiting) for _ in range(count)]) / largest for count in counts]
