"""Observers: what a slot sees during calibration becomes the range of its quantizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vitptq.bench.bits import FLOAT_BITS
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.operands import Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.ranges.estimation import Range, min_max, uniform


class Observer(ABC):
    """Sees one slot's tensor batch by batch, arranged as (groups, values), then names the range to cover."""

    @abstractmethod
    def see(self, x: Tensor, *, bits: int, last: bool) -> None:
        """Take in one batch; `last` marks the final one."""

    @abstractmethod
    def range(self) -> Range:
        """Return (low, high), each (groups,)."""


class RunningMinMax(Observer):
    """The extreme values over all batches."""

    def __init__(self) -> None:
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    def see(self, x: Tensor, *, bits: int, last: bool) -> None:
        """Widen the range to hold `x`."""
        low, high = min_max(x)
        self.low = low if self.low is None else low.minimum(self.low)
        self.high = high if self.high is None else high.maximum(self.high)

    def range(self) -> Range:
        """Return the extreme values."""
        assert self.low is not None and self.high is not None, "range() before any batch"
        return self.low, self.high


def with_last(batches: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield each batch and whether it is the last, holding two at a time: all of them may not fit a GPU."""
    before = next(batches)
    for batch in batches:
        yield before, False
        before = batch
    yield before, True


def observe_activations(net: PreparedModel, calibration: Calibration, observer: Callable[[], Observer]) -> None:
    """Give every activation slot a per-tensor quantizer, from one pass with everything in float.

    All slots watch the same float activations, so the result does not depend on the order of the layers.
    """
    slots = {name: operand for name, operand in net.activations.items() if operand.bits != FLOAT_BITS}
    observers = {name: observer() for name in slots}
    seen: set[str] = set()
    net.switch(False)
    for batch, is_last in with_last(calibration.batches()):

        def watch(operand: Operand, x: Tensor, last: bool = is_last) -> None:
            seen.add(operand.name)
            observers[operand.name].see(x.reshape(1, -1), bits=operand.bits, last=last)

        with torch.no_grad(), watching(slots, watch):
            calibration.forward(net.model, batch)
    unseen = sorted(set(slots) - seen)
    if unseen:
        raise Unsupported(f"{unseen[0]} did not run on the calibration set, so it has no range")
    for name, operand in slots.items():
        operand.quantizer = uniform(*observers[name].range(), operand.bits)


def observe_weights(
    net: PreparedModel, *, symmetric: bool = False, estimate: Callable[[Tensor, int], Range] | None = None
) -> None:
    """Give every weight slot a quantizer per output channel; min-max unless `estimate(rows, bits)` is given."""
    for operand in net.weights.values():
        if operand.bits == FLOAT_BITS:
            continue
        rows = operand.by_channel(net.weight(operand).detach())
        low, high = min_max(rows) if estimate is None else estimate(rows, operand.bits)
        operand.quantizer = uniform(
            low, high, operand.bits, axis=operand.channel_axis, granularity="channel", symmetric=symmetric
        )
