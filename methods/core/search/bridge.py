"""A bridge block run for many candidates of one of its layers at once, stacked along the batch (Q-HyViT)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.families import Bridge
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.model.watched_calls import ALL, watched_calls
from vitptq.methods.core.search.alternating import Judge, SlotSearch, at_own_output, step_size
from vitptq.methods.core.search.candidates import Candidates
from vitptq.methods.core.search.elimination import Best, CandidateLosses, eliminate
from vitptq.methods.core.search.operator_outputs import outputs
from vitptq.methods.core.search.recording import Recording, joined
from vitptq.methods.core.sensitivity.fisher import normalised


class BridgeRun:
    """A bridge block on the calibration images: what passes through its members, and what a change of the first does.

    The members behind the first are the block's outputs. What comes before the first inside the block's module does not
    depend on any candidate and is computed once.
    """

    def __init__(self, net: PreparedModel, calibration: Calibration, bridge: Bridge, gradients: list[Tensor]) -> None:
        """Record the block; `gradients` are dL/dO of the members, the first member's last."""
        self.inside: Any = net.model.get_submodule(bridge.inside)
        layers: list[Any] = [net.model.get_submodule(name) for name in bridge.members]
        net.switch(False)
        self.inputs = self._enter(net, calibration)
        self.images = len(self.inputs[0])
        self.before: dict[nn.Module, Tensor] = self._before(layers[0])
        *ends, own = gradients
        weights = [
            weight
            for some in ([own], ends)
            for weight in normalised(some) or [torch.ones_like(gradient) for gradient in some]
        ]
        self.members: list[tuple[Any, Recording]] = [
            (layer, Recording(layer, layer.weight.detach(), x, output, weight))
            for layer, (x, output), weight in zip(layers, self.reached(layers), weights, strict=True)
        ]

    @torch.no_grad()
    def reached(
        self, modules: Sequence[nn.Module], quantizers: Mapping[Operand, Quantizer] | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Return what enters and what leaves some modules on all images, when those quantizers are on."""
        with switched_on(quantizers or {}), putting_out(self.before):
            return self._run(modules, self.inputs)

    @torch.no_grad()
    def errors(self, outs: Tensor, images: Tensor) -> Tensor:
        """Return the weighted errors (K, r) at the block's outputs where the first member puts out `outs`."""
        (first, _), *ends = self.members
        replaced: dict[nn.Module, Tensor] = {first: outs.flatten(0, 1)}
        replaced |= {module: self.some(x, images, len(outs)) for module, x in self.before.items()}
        with putting_out(replaced):
            found = self._run([end for end, _ in ends], tuple(self.some(x, images, len(outs)) for x in self.inputs))
        total = outs.new_zeros(len(outs), len(images))
        for (_, out), (_, recording) in zip(found, ends, strict=True):
            total += self._weighted(recording, out.unflatten(0, (len(outs), -1)), images)
        return total

    def own_errors(self, outs: Tensor, images: Tensor) -> Tensor:
        """Return the weighted errors (K, r) of outputs `outs` (K, r, ...) of the first member."""
        return self._weighted(self.members[0][1], outs, images)

    def _weighted(self, recording: Recording, outs: Tensor, images: Tensor) -> Tensor:
        assert recording.gradient is not None
        error = outs - self.some(recording.output, images)
        error.mul_(self.some(recording.gradient, images)).square_()
        return error.reshape(len(outs), len(images), -1).sum(-1)

    def some(self, x: Tensor, images: Tensor, count: int = 1) -> Tensor:
        """Return what belongs to some of the images, `count` times; an image may have several rows of `x`."""
        part = x.unflatten(0, (self.images, -1))[images].flatten(0, 1)
        repeated: Tensor = part.repeat(count, *[1] * (x.ndim - 1))
        return repeated

    @torch.no_grad()
    def _enter(self, net: PreparedModel, calibration: Calibration) -> tuple[Tensor, ...]:
        """Return the float inputs of the module that holds the block, all batches joined."""
        seen: list[tuple[Tensor, ...]] = []
        for batch in calibration.batches():
            with watched_calls({self.inside: 1}, lambda module, args, *_: seen.append(args), entering=True):
                calibration.forward(net.model, batch)
        return tuple(joined(parts) for parts in zip(*seen, strict=True))

    @torch.no_grad()
    def _before(self, first: nn.Module) -> dict[nn.Module, Tensor]:
        """Return the outputs of the largest modules that are done when the first member is entered."""
        done: dict[nn.Module, Tensor] = {}
        called: set[nn.Module] = set()

        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            for part in module.modules():
                done.pop(part, None)
            if module not in called and isinstance(output, Tensor):  # one that runs twice has no one output
                done[module] = output
            called.add(module)

        others = dict.fromkeys((module for module in self.inside.modules() if module is not first), ALL)
        with watched_calls({first: 1}, lambda *_: None, entering=True), watched_calls(others, leave):
            self.inside(*self.inputs)
        return done

    def _run(self, modules: Sequence[nn.Module], inputs: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        """Run the block until all `modules` are done, and return what entered and what left them."""
        found: dict[nn.Module, tuple[Tensor, Tensor]] = {}

        def leave(module: nn.Module, args: tuple[Tensor, ...], kwargs: Any, output: Tensor) -> None:
            found[module] = args[0], output

        with watched_calls(dict.fromkeys(modules, 1), leave):
            self.inside(*inputs)
        return [found[module] for module in modules]


class BlockLosses(CandidateLosses):
    """Candidates of one side of a bridge block's first member, judged at the block's outputs, image by image."""

    def __init__(
        self,
        run: BridgeRun,
        slots: Sequence[SlotSearch],
        slot: SlotSearch,
        candidates: Candidates,
        scales: tuple[float, float] | None,
        order: Tensor | None = None,
    ) -> None:
        """Take two slots of each member, the weight's first, and the images' order.

        `scales` are what the errors at the block's outputs and at the member's own are divided by; without them, the
        first count alone.
        """
        self.run, self.slots, self.slot, self.candidates, self.scales = run, slots, slot, candidates, scales
        (self.x,) = slot.x
        self.device, self.rows = self.x.device, run.images
        self.order = torch.arange(run.images, device=self.device) if order is None else order
        (self.fixed,) = slots[1 if slot is slots[0] else 0].quantised()
        (_, first), *ends = run.members
        passing = (first.second, first.output, *(end.output for _, end in ends))
        self.size = sum(x.numel() for x in (*passing, *run.inputs, *run.before.values())) // run.images

    @torch.no_grad()
    def losses(self, places: Tensor, rows: slice) -> Tensor:
        """Return losses (k, r, 1)."""
        run, images = self.run, self.order[rows]
        first, _ = run.members[0]
        if self.slot.side == "first":
            varied = self.candidates(self.x, places)
            outs = outputs(first, varied, run.some(self.fixed, images), "first").contiguous()
        else:
            outs = outputs(first, self.fixed, self.candidates(run.some(self.x, images), places), "second")
        total = block_errors(run, self.slots, outs, images)
        if self.scales is not None:
            total = total / self.scales[0] + run.own_errors(outs, images) / self.scales[1]
        return total.unsqueeze(-1)

    def ordered(self, order: Tensor) -> BlockLosses:
        """Return the same with the images in another order."""
        return BlockLosses(self.run, self.slots, self.slot, self.candidates, self.scales, self.order[order])


def block_errors(run: BridgeRun, slots: Sequence[SlotSearch], outs: Tensor, images: Tensor) -> Tensor:
    """Return `run.errors` with the slots behind the first member as they are now."""
    with switched_on({each.operand: each.quantizer for each in slots[2:]}):
        return run.errors(outs, images)


def errors_now(run: BridgeRun, slots: Sequence[SlotSearch]) -> tuple[float, float]:
    """Return the errors at the block's outputs and at the first member's own with all slots as they are."""
    (weight,), (x,) = slots[0].quantised(), slots[1].quantised()
    images = torch.arange(run.images, device=x.device)
    outs = outputs(run.members[0][0], weight[None], x, "first").contiguous()
    block, own = block_errors(run, slots, outs, images).sum().item(), run.own_errors(outs, images).sum().item()
    return block or 1.0, own or 1.0


def at_block_output(run: BridgeRun, slots: Sequence[SlotSearch], memory: int, *, with_own: bool = False) -> Judge:
    """Return what judges a bridge block's slots, two of each member, by the block's output.

    `with_own` counts the error at the first member's output as well, each error divided by its value with all slots as
    they are now. What the last layers change is seen at their own outputs, so they are judged there, on what then
    enters them.
    """
    scales = errors_now(run, slots) if with_own else None

    def judge(slot: SlotSearch, candidates: Candidates, guess: Tensor | None) -> Best:
        if slot in slots[:2]:
            losses = BlockLosses(run, slots, slot, candidates, scales)
            return eliminate(losses, candidates.count, step_size(memory, losses.device), guess)
        number = slots.index(slot) // 2
        weight, behind = slots[2 * number : 2 * number + 2]
        end, recording = run.members[number]
        ((x, _),) = run.reached([end], {each.operand: each.quantizer for each in slots[:2]})
        now = [weight, replace(behind, x=(x,))]
        judge_end = at_own_output([replace(recording, second=x)], now, memory)
        return judge_end(now[0] if slot is weight else now[1], candidates, guess)

    return judge


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
