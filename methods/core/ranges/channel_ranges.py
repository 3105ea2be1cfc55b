"""The range of every channel of what some slots read in float."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.reporting import report
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.operands import Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.ranges.estimation import Range, min_max


@torch.no_grad()
def channel_ranges(net: PreparedModel, calibration: Calibration, slots: Collection[Operand]) -> dict[Operand, Range]:
    """Return the least and the largest value of each channel, (channels,) each, by slot; nothing is on meanwhile."""
    found: dict[Operand, Range] = {}

    def watch(slot: Operand, x: Tensor) -> None:
        low, high = min_max(slot.by_channel(x))
        if slot in found:
            low, high = low.minimum(found[slot][0]), high.maximum(found[slot][1])
        found[slot] = low, high

    net.switch(False)
    count = sum(1 for _ in calibration.batches())  # not kept: all of them may not fit a GPU
    for done, batch in enumerate(calibration.batches()):
        report("channel ranges", done, count)
        with watching({slot.name: slot for slot in slots}, watch):
            calibration.forward(net.model, batch)
    unseen = sorted(slot.name for slot in slots if slot not in found)
    if unseen:
        raise Unsupported(f"{unseen[0]} did not run on the calibration set, so it has no range")
    return found
