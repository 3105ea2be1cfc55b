"""A block that reads what the quantised blocks before it put out, and is to put out what the float model's does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.operands import Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.model.watched_calls import watched_calls
from vitptq.methods.core.ranges.estimation import evenly_spread
from vitptq.methods.core.search.module_run import Call, ModuleRun
from vitptq.methods.core.sensitivity.fisher import first_tensor

POSITIONS = 16_384
"""Positions of a tensor, over all images, that ranges are found on, evenly spread."""


class BehindPrefix(ModuleRun):
    """A block's calls on the calibration images; slots stay switched as they are."""

    def __init__(self, net: PreparedModel, twin: PreparedModel, calibration: Calibration, name: str) -> None:
        """Record inputs in `net` as it is switched, outputs in `twin`, the float model."""
        self.net, self.module = net, net.model.get_submodule(name)
        given = _calls(net, calibration, self.module)
        wanted = _calls(twin, calibration, twin.model.get_submodule(name))
        self.calls = [Call(*one[:2], first_tensor(other[2])) for one, other in zip(given, wanted, strict=True)]

    def read(self, slots: Collection[Operand]) -> dict[Operand, Tensor]:
        """Return what slots read now, as (channels, positions), of some positions where there are many."""
        parts: dict[Operand, list[Tensor]] = {slot: [] for slot in slots}
        limit = max(1, POSITIONS // len(self.calls))

        def watch(slot: Operand, x: Tensor) -> None:
            channels = slot.by_channel(x.detach())
            parts[slot].append(channels[:, evenly_spread(channels.shape[1], limit, x.device)])

        with torch.no_grad(), watching({slot.name: slot for slot in slots}, watch):
            for call in self.calls:
                self.output(call)
        return {slot: torch.cat(found, dim=1) for slot, found in parts.items()}


@torch.no_grad()
def _calls(net: PreparedModel, calibration: Calibration, module: nn.Module) -> list[tuple[Any, Any, Any]]:
    """Return the arguments, keyword arguments and output of a module's first call on each batch."""
    found: list[tuple[Any, Any, Any]] = []
    for batch in calibration.batches():
        with watched_calls({module: 1}, lambda _, args, kwargs, output: found.append((args, kwargs, output))):
            calibration.forward(net.model, batch)
    return found
