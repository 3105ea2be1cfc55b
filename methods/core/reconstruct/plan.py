"""The plan of a reconstruction: which units run in which order, how they are called, and which follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.reporting import note_details
from vitptq.bench.errors import BadInput, Unsupported
from vitptq.methods.core.model.operands import Layer
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.reconstruct.cached_tensors import CallRows
from vitptq.methods.core.reconstruct.layout import Layout


@dataclass(frozen=True)
class Call:
    """How a unit is called, and what it returns; the same for all batches of one shape."""

    inputs: Layout
    """Of the pair (args, kwargs)."""
    outputs: Layout
    key: str


@dataclass
class UnitPlan:
    """One unit: its calls in all batches."""

    name: str
    calls: list[Call] = field(default_factory=list)
    """One per group of equal shapes."""
    entries: list[CallRows] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Images per group."""
    link: tuple[int, ...] | None = None
    """Which tensors of the previous unit's output are this one's inputs; None where something runs in between."""
    final: bool = False
    """Whether the unit's output is the model's."""

    @property
    def samples(self) -> int:
        """Return how many samples there are: images, times the calls in one forward pass."""
        return sum(self.sizes)


def block_units(net: PreparedModel) -> list[str]:
    """Return the names of the blocks, in execution order."""
    return [name for name, _ in net.blocks()]


def layer_units(net: PreparedModel) -> list[str]:
    """Return the names of all layers with a weight: units of layer-wise reconstruction."""
    return [name.rpartition(".")[0] for name in net.weights]


def all_units(net: PreparedModel) -> list[str]:
    """Return the blocks and the layers outside them, such as the patch embedding and the head."""
    blocks = block_units(net)
    # the dot at both ends: a block may be a layer itself
    outside = [name for name in layer_units(net) if not any(f"{name}.".startswith(f"{block}.") for block in blocks)]
    return [*blocks, *outside]


@torch.no_grad()
def plan(net: PreparedModel, calibration: Calibration, names: Sequence[str]) -> list[UnitPlan]:
    """Return the units in execution order, from one forward pass per shape of the batches.

    A unit that does not run, or whose input has no tensor with the images first, is left out; the record tells.
    """
    passes: dict[tuple[int, ...], _ForwardPass] = {}
    units: dict[str, UnitPlan] = {}
    numbers = dict.fromkeys(names, 0)
    for number, batch in enumerate(calibration.batches()):
        if not isinstance(batch, Tensor):
            raise Unsupported("reconstruction needs calibration batches that are tensors with the images first")
        seen = passes.get(tuple(batch.shape))
        if seen is None:
            seen = passes[tuple(batch.shape)] = _watch(net, calibration, batch, names)
        for name, calls in seen.calls.items():
            unit = units.setdefault(name, UnitPlan(name))
            for call in calls:
                _add(unit, call, number, len(batch), numbers)
    _link(units, list(passes.values()))
    left_out = sorted(set(names) - set(units))
    if left_out:
        note_details("not reconstructed", list(left_out))
    return list(units.values())


def _add(unit: UnitPlan, call: Call, batch: int, images: int, numbers: dict[str, int]) -> None:
    keys = [known.key for known in unit.calls]
    if call.key not in keys:
        keys.append(call.key)
        unit.calls.append(call)
        unit.sizes.append(0)
    group = keys.index(call.key)
    start = unit.sizes[group]
    unit.sizes[group] += images
    unit.entries.append(CallRows(group, start, start + images, batch, numbers[unit.name]))
    numbers[unit.name] += images


class _ForwardPass:
    """What one forward pass shows of the units, in execution order."""

    def __init__(self) -> None:
        self.calls: dict[str, list[Call]] = {}
        self.links: dict[str, tuple[int, ...] | None] = {}
        self.previous: dict[str, str] = {}
        self.final = ""
        self.last: tuple[str, list[tuple[Tensor, int]]] = ("", [])
        """The unit that ran last, its output tensors and their versions."""


def _watch(net: PreparedModel, calibration: Calibration, batch: Tensor, names: Sequence[str]) -> _ForwardPass:
    seen = _ForwardPass()
    images = len(batch)
    entered: dict[str, Any] = {}

    def enter(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        rows = isinstance(module, Layer)
        layout = Layout.of((args, kwargs), images, rows=rows)
        entered[name] = layout, layout.key((args, kwargs)), layout.split((args, kwargs))
        before, outputs = seen.last
        places = {id(x): place for place, (x, version) in enumerate(outputs) if x._version == version}
        inputs = layout.split((args, kwargs))
        direct = not any(layout.rows) and all(id(x) in places for x in inputs)
        seen.links[name] = tuple(places[id(x)] for x in inputs) if direct and name not in seen.calls else None
        seen.previous[name] = before

    def leave(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        layout, key, inputs = entered.pop(name)
        outputs = Layout.of(output, images, rows=isinstance(module, Layer) or hasattr(module, "puts_out_rows"))
        if not inputs or not outputs.places:
            return
        seen.calls.setdefault(name, []).append(Call(layout, outputs, key + outputs.key(output)))
        tensors = [] if any(outputs.rows) else outputs.split(output)
        seen.last = name, [(x, x._version) for x in tensors]

    handles = []
    for name in names:
        module = net.model.get_submodule(name)
        handles.append(module.register_forward_pre_hook(partial(enter, name), with_kwargs=True))
        handles.append(module.register_forward_hook(partial(leave, name), with_kwargs=True))
    try:
        result = calibration.forward(net.model, batch)
    finally:
        for handle in handles:
            handle.remove()
    name, outputs = seen.last
    if len(outputs) == 1 and result is outputs[0][0]:
        seen.final = name
    return seen


def _link(units: dict[str, UnitPlan], seen: list[_ForwardPass]) -> None:
    """Set which units follow each other directly, in every forward pass that was seen."""
    order = list(units)
    for before, name in zip(["", *order], order, strict=False):
        links = {s.links.get(name) for s in seen}
        once = all(len(s.calls.get(n, [])) == 1 for s in seen for n in (name, before))
        follows = all(s.previous.get(name) == before for s in seen)
        units[name].link = links.pop() if len(links) == 1 and once and follows else None
    for name in order:
        units[name].final = all(s.final == name for s in seen)


def check_names(net: PreparedModel, names: Sequence[str]) -> None:
    """Refuse units that are not in the model or lie inside each other."""
    modules = dict(net.model.named_modules())
    for name in names:
        if name not in modules:
            raise BadInput(
                f'the model has no module "{name}" to reconstruct; its blocks: {", ".join(block_units(net))}'
            )
        if any(name != other and name.startswith(f"{other}.") for other in names):
            raise BadInput(f'"{name}" lies inside another unit of the reconstruction; name one of the two')
