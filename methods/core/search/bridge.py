"""A bridge block run for many candidates of one of its layers at once, stacked along the batch (Q-HyViT)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.families import Bridge
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.search.candidate_losses import Candidates
from vitptq.methods.core.search.recording import Side, StopForward, joined, outputs


class BridgeRun:
    """A bridge block on the calibration images: what enters it, what leaves it, and the weights of the errors there.

    What comes before the first member inside the block's module does not depend on any candidate and is computed once.
    """

    def __init__(self, net: PreparedModel, calibration: Calibration, bridge: Bridge, gradients: list[Tensor]) -> None:
        self.inside: Any = net.model.get_submodule(bridge.inside)
        self.first: Any = net.model.get_submodule(bridge.members[0])
        self.ends: list[nn.Module] = [net.model.get_submodule(name) for name in bridge.outputs]
        self.images = 0
        net.switch(False)
        self.inputs = self._enter(net, calibration)
        self.before: dict[nn.Module, Tensor] = self._before()
        (self.x,) = self._capture([self.first], inputs=True)
        (self.own,) = self._capture([self.first])
        self.targets = self._capture(self.ends)
        largest = torch.stack([gradient.abs().amax() for gradient in gradients]).amax()
        known = bool(largest > 0 and largest.isfinite())
        self.gradients = [g / largest if known else torch.ones_like(g) for g in gradients]

    @torch.no_grad()
    def into(self, member: nn.Module, quantizers: Mapping[Operand, Quantizer]) -> Tensor:
        """Return what `member` reads when those quantizers are on."""
        with switched_on(quantizers):
            (x,) = self._capture([member], inputs=True)
        return x

    @torch.no_grad()
    def errors(self, outs: Tensor, images: Tensor) -> Tensor:
        """Return the weighted errors (K, r) at the outputs where the first member puts out `outs` (K, r, ...)."""
        count = len(outs)
        replaced: dict[nn.Module, Tensor] = {self.first: outs.flatten(0, 1)}
        replaced |= {module: self.some(x, images, count) for module, x in self.before.items()}
        with putting_out(replaced):
            found = self._run(self.ends, tuple(self.some(x, images, count) for x in self.inputs), inside=False)
        total = outs.new_zeros(count, len(images))
        for out, target, gradient in zip(found, self.targets, self.gradients, strict=True):
            error = out.unflatten(0, (count, -1)) - self.some(target, images)
            error.mul_(self.some(gradient, images)).square_()
            total += error.reshape(count, len(images), -1).sum(-1)
        return total

    def some(self, x: Tensor, images: Tensor, count: int = 1) -> Tensor:
        """Return what belongs to some of the images, `count` times; an image may have several rows of `x`."""
        part = x.unflatten(0, (self.images, -1))[images].flatten(0, 1)
        return part.repeat(count, *[1] * (x.ndim - 1))

    @torch.no_grad()
    def _enter(self, net: PreparedModel, calibration: Calibration) -> tuple[Tensor, ...]:
        """Return the float inputs of the module that holds the block, all batches joined."""
        seen: list[tuple[Tensor, ...]] = []

        def enter(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen.append(args)
            raise StopForward

        handle = self.inside.register_forward_pre_hook(enter)
        try:
            for batch in calibration.batches():
                with suppress(StopForward):
                    calibration.forward(net.model, batch)
        finally:
            handle.remove()
        inputs = tuple(joined(parts) for parts in zip(*seen, strict=True))
        self.images = len(inputs[0])
        return inputs

    @torch.no_grad()
    def _before(self) -> dict[nn.Module, Tensor]:
        """Return the outputs of the largest modules that are done when the first member is entered."""
        done: dict[nn.Module, Tensor] = {}
        called: set[nn.Module] = set()

        def enter(module: nn.Module, args: Any) -> None:
            raise StopForward

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            for part in module.modules():
                done.pop(part, None)
            if module not in called and isinstance(output, Tensor):  # one that runs twice has no one output
                done[module] = output
            called.add(module)

        handles = [self.first.register_forward_pre_hook(enter)]
        handles += [module.register_forward_hook(leave) for module in self.inside.modules()]
        try:
            with suppress(StopForward):
                self.inside(*self.inputs)
        finally:
            for handle in handles:
                handle.remove()
        return done

    @torch.no_grad()
    def _capture(self, modules: list[nn.Module], *, inputs: bool = False) -> list[Tensor]:
        """Return what leaves (or enters) some modules on all images."""
        with putting_out(self.before):
            return self._run(modules, self.inputs, inside=inputs)

    def _run(self, modules: list[nn.Module], inputs: tuple[Tensor, ...], *, inside: bool) -> list[Tensor]:
        """Run the block until all `modules` are done; what comes behind them is not computed."""
        found: dict[nn.Module, Tensor] = {}

        def leave(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            found[module] = args[0] if inside else output
            if len(found) == len(modules):
                raise StopForward

        handles = [module.register_forward_hook(leave) for module in modules]
        try:
            with suppress(StopForward):
                self.inside(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        return [found[module] for module in modules]


@dataclass(frozen=True)
class BlockContest:
    """Candidates of one side of a bridge block's first member, judged at the block's outputs, image by image."""

    run: BridgeRun
    side: Side
    fixed: Tensor
    """The other side as it is to be used."""
    candidates: Candidates
    quantizers: Mapping[Operand, Quantizer]
    """Those of the other members."""
    own: Tensor | None
    """dL/dO at the member's own output, where the error there counts as well."""
    scales: tuple[float, float]
    """What the errors at the block's outputs and at the member's own are divided by."""
    order: Tensor
    groups: int = 1
    fewest: int = 1

    @property
    def rows(self) -> int:
        """Return the number of images."""
        return self.run.images

    @property
    def size(self) -> int:
        """Return how many values one candidate takes on one image, about."""
        tensors = (self.run.x, self.run.own, *self.run.inputs, *self.run.before.values(), *self.run.targets)
        return sum(x.numel() for x in tensors) // self.run.images

    @torch.no_grad()
    def losses(self, places: Tensor, rows: slice) -> Tensor:
        """Return losses (k, r, 1)."""
        run, images = self.run, self.order[rows]
        if self.side == "first":
            varied = self.candidates(run.first.weight.detach(), places)
            outs = outputs(run.first, varied, run.some(self.fixed, images), "first").contiguous()
        else:
            outs = outputs(run.first, self.fixed, self.candidates(run.some(run.x, images), places), "second")
        with switched_on(self.quantizers):
            total = run.errors(outs, images) / self.scales[0]
        if self.own is not None:
            error = outs.sub(run.some(run.own, images)).mul_(run.some(self.own, images)).square_()
            total += error.flatten(2).sum(-1) / self.scales[1]
        return total.unsqueeze(-1)

    def ordered(self, order: Tensor) -> BlockContest:
        """Return the contest with its images in another order."""
        return replace(self, order=self.order[order])


@contextmanager
def switched_on(quantizers: Mapping[Operand, Quantizer]) -> Iterator[None]:
    """Let some slots quantise inside, and be as before afterwards."""
    before = {slot: (slot.quantizer, slot.on) for slot in quantizers}
    for slot, quantizer in quantizers.items():
        slot.quantizer, slot.on = quantizer, True
    try:
        yield
    finally:
        for slot, (kept, on) in before.items():
            slot.quantizer, slot.on = kept, on


@contextmanager
def putting_out(outputs: Mapping[nn.Module, Tensor]) -> Iterator[None]:
    """Let some modules put out known tensors inside, instead of computing."""
    for module, output in outputs.items():
        vars(module)["forward"] = lambda *args, known=output, **kwargs: known
    try:
        yield
    finally:
        for module in outputs:
            del vars(module)["forward"]
