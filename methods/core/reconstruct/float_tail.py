"""The frozen float model behind a unit, for losses on the predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.reconstruct.cached_tensors import has_room
from vitptq.methods.core.reconstruct.losses import PerSample
from vitptq.methods.core.reconstruct.plan import UnitPlan

Forward = Callable[[nn.Module, Any], Tensor | tuple[Tensor, ...]]
"""(model, images) to its predictions, as `Calibration.forward`."""


class FloatTail:
    """Gives the float model's predictions when one unit's output is replaced.

    The unit itself does not run. The blocks in front of it do not either where the model is a chain, which the first
    call finds out; elsewhere (a detector's neck needs the results of all stages) they run again, without gradients.
    """

    def __init__(self, twin: PreparedModel, calibration: Calibration, plan: UnitPlan, forward: Forward) -> None:
        if len(plan.entries) != len({entry.batch for entry in plan.entries}):
            raise Unsupported(f"{plan.name} runs several times per image: what follows it is not one function")
        self.twin, self.plan, self.forward = twin, plan, forward
        self.device = calibration.device
        self.images = _images(calibration)
        names = [name for name, _ in twin.blocks()]
        self.front = names[: names.index(plan.name)] if plan.name in names else []
        self._chain: bool | None = None if self.front else False

    def __call__(self, tensors: Sequence[Tensor], indices: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the predictions for the images with these numbers, the unit putting out `tensors`."""
        images = self.images(indices).to(self.device)
        output = self.plan.calls[self._group(indices)].outputs.join(list(tensors))
        if self._chain is None:
            self._chain = self._is_chain(images, output)
        return self._run(images, output, skip=self._chain)

    @torch.no_grad()
    def _is_chain(self, images: Tensor, output: Any) -> bool:
        """Tell whether nothing behind the unit reads what the blocks in front of it put out."""
        expected = tree_leaves(self._run(images, output, skip=False))
        try:
            found = tree_leaves(self._run(images, output, skip=True))
        # something read a shape that is not there
        except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError):
            return False
        return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def _run(self, images: Tensor, output: Any, *, skip: bool) -> Tensor | tuple[Tensor, ...]:
        replaced = dict.fromkeys(self.front, _first) if skip else {}
        replaced[self.plan.name] = lambda *args, **kwargs: output
        modules = [(self.twin.model.get_submodule(name), forward) for name, forward in replaced.items()]
        for module, forward in modules:
            vars(module)["forward"] = forward
        try:
            return self.forward(self.twin.model, images)
        finally:
            for module, _ in modules:
                del vars(module)["forward"]

    def _group(self, indices: Tensor) -> int:
        """Return the group of equal shapes that samples belong to."""
        if len(self.plan.calls) == 1:
            return 0
        number = int(indices[0])
        return next(entry.group for entry in reversed(self.plan.entries) if entry.first <= number)


def _images(calibration: Calibration) -> PerSample:
    """Return what looks calibration images up: on a GPU where there is room for them, else in host memory."""
    device = calibration.device
    there = device.type != "cpu" and has_room(sum(batch.nbytes for batch in calibration.batches()), device)
    return PerSample([batch if there else batch.cpu() for batch in calibration.batches()], join=there)


def _first(x: Any, *args: Any, **kwargs: Any) -> Any:
    return x
