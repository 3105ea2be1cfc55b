"""The frozen float model behind a unit, for losses on the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.errors import Unsupported
from bench.protocol import Calibration
from methods.core.explicit import Explicit
from methods.core.reconstruct.plan import UnitPlan


class Suffix:
    """Gives the float model's predictions when one unit's output is replaced.

    The model in front of the unit runs again without gradients (its results may be needed behind the unit, as a
    detector's neck needs those of all stages); only the unit itself does not run.
    """

    def __init__(self, twin: Explicit, calibration: Calibration, plan: UnitPlan) -> None:
        if len(plan.entries) != len({entry.batch for entry in plan.entries}):
            raise Unsupported(f"{plan.name} runs several times per image: what follows it is not one function")
        self.twin, self.calibration, self.plan = twin, calibration, plan
        self.batches = [batch.cpu() for batch in calibration.batches()]
        self.first = [entry.first for entry in plan.entries]

    def __call__(self, tensors: Sequence[Tensor], indices: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the predictions for the images with these numbers, the unit putting out `tensors`."""
        images, group = self._images(indices)
        module = self.twin.model.get_submodule(self.plan.name)
        output = self.plan.calls[group].outputs.join(list(tensors))

        def instead(*args: Any, **kwargs: Any) -> Any:
            return output

        vars(module)["forward"] = instead
        try:
            return self.calibration.forward(self.twin.model, images.to(self.calibration.device))
        finally:
            del vars(module)["forward"]

    def _images(self, indices: Tensor) -> tuple[Tensor, int]:
        starts = torch.tensor(self.first)
        places = torch.searchsorted(starts, indices, right=True) - 1
        entries = [self.plan.entries[place] for place in places.tolist()]
        pairs = zip(entries, indices.tolist(), strict=True)
        return torch.stack([self.batches[e.batch][i - e.first] for e, i in pairs]), entries[0].group
