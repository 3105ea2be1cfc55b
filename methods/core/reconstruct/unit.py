"""One unit of a reconstruction: its quantised and its float form, and what a loss may ask of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.reconstruct.cached_tensors import CachedTensors
from vitptq.methods.core.reconstruct.float_tail import FloatTail, Forward
from vitptq.methods.core.reconstruct.losses import StepTensors
from vitptq.methods.core.reconstruct.mini_batches import MiniBatch
from vitptq.methods.core.reconstruct.plan import UnitPlan


@dataclass
class Unit:
    """A unit and its cached data. `net` is the quantised model, `twin` the float one."""

    plan: UnitPlan
    number: int
    """Its place among the units, from 0."""
    net: PreparedModel
    twin: PreparedModel
    calibration: Calibration
    inputs: CachedTensors | None = None
    """From the quantised prefix."""
    float_inputs: CachedTensors | None = None
    targets: CachedTensors | None = None
    taps: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the module's name in the model."""
        return self.plan.name

    @property
    def final(self) -> bool:
        """Tell whether the unit's output is the model's."""
        return self.plan.final

    @property
    def module(self) -> nn.Module:
        """Return the quantised unit."""
        return self.net.model.get_submodule(self.name)

    @property
    def float_module(self) -> nn.Module:
        """Return the float unit."""
        return self.twin.model.get_submodule(self.name)

    @property
    def operands(self) -> list[Operand]:
        """Return the slots inside the unit."""
        return [module for module in self.module.modules() if isinstance(module, Operand)]

    def tap(self, *names: str) -> None:
        """Ask for the outputs of submodules, named within the unit: `inner` and `inner_targets` of `StepTensors`."""
        for name in names:
            self.module.get_submodule(name)
        self.taps += [name for name in names if name not in self.taps]

    def float_tail(self, forward: Forward | None = None) -> FloatTail:
        """Return the frozen float model behind this unit, differentiable in the unit's output.

        `forward` says what a model predicts for a batch of images; by default what the task says.
        """
        return FloatTail(self.twin, self.calibration, self.plan, forward or self.calibration.forward)

    def run(self, module: nn.Module, group: int, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the output tensors of the quantised or float unit for input tensors of one group."""
        call = self.plan.calls[group]
        args, kwargs = call.inputs.join(tensors)
        return call.outputs.split(module(*args, **kwargs))

    def step_tensors(self, batch: MiniBatch, mix: Callable[[Tensor, Tensor], Tensor], source: str) -> StepTensors:
        """Run a mini-batch: `source` says which inputs, `mix` joins the quantised and the float ones."""
        device, group = self.calibration.device, batch.group
        plain = drawn(self.float_inputs, batch, device) if source != "quantised" or self.taps else []
        given = drawn(self.inputs, batch, device) if source != "float" else plain
        if source == "mixed":
            given = [mix(q, x) for q, x in zip(given, plain, strict=True)]
        inner_targets: dict[str, Tensor] = {}
        if self.taps:
            with torch.no_grad(), tapped(self.float_module, self.taps, inner_targets):
                self.run(self.float_module, group, plain)
        inner: dict[str, Tensor] = {}
        with tapped(self.module, self.taps, inner):
            outputs = self.run(self.module, group, given)
        targets = drawn(self.targets, batch, device)
        outputs = [x.to(t.dtype) for x, t in zip(outputs, targets, strict=True)]
        return StepTensors(outputs, targets, batch.samples.here, inner, inner_targets, batch.samples.there)


def drawn(samples: CachedTensors | None, batch: MiniBatch, device: torch.device) -> list[Tensor]:
    """Return a mini-batch of cached tensors."""
    if samples is None:
        raise Unsupported("these inputs were not cached: the settings of the reconstruction do not name them")
    return samples.draw(batch.group, batch.rows.on, device)


@contextmanager
def tapped(module: nn.Module, names: Sequence[str], into: dict[str, Tensor]) -> Iterator[None]:
    """Collect the outputs of submodules."""

    def leave(name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        into[name] = output

    handles = [module.get_submodule(name).register_forward_hook(partial(leave, name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
