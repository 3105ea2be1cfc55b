"""OMSE: shrink the min-max range to the least squared error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bench.bits import BitSpec
from bench.protocol import Calibration, Method
from methods.core.explicit import explicit
from methods.core.observe import RunningMinMax, observe_activations, observe_weights
from methods.core.ranges import Range, least_error, min_max

CANDIDATES = 90


def shrunk(low: Tensor, high: Tensor) -> Range:
    """Return the candidates: both ends times 1, 0.99, ..., 0.11; shapes (groups,) to (groups, 90)."""
    factors = 1 - 0.01 * torch.arange(CANDIDATES, device=low.device)
    return low[:, None] * factors, high[:, None] * factors


def least_error_range(x: Tensor, bits: int, *, symmetric: bool = False) -> Range:
    """Return the shrunk min-max range with the least squared error on `x` (groups, values)."""
    return least_error(x, *shrunk(*min_max(x)), bits, symmetric=symmetric)


class LeastError(RunningMinMax):
    """Min-max over all batches, then the shrinking that suits the last batch best."""

    def see(self, x: Tensor, *, bits: int, last: bool) -> None:
        """Widen the range; on the last batch, search."""
        super().see(x, bits=bits, last=last)
        if last:
            self.low, self.high = least_error(x, *shrunk(*self.range()), bits)


@dataclass(frozen=True)
class OMSE(Method):
    """Activations: of 90 ranges, both ends shrunk by the same factor, the one with the least squared error.

    The published form scores the last calibration batch only, and keeps min-max per output channel for the weights;
    `w_observer="omse"` searches those as well. The error of all candidates is computed at once on sorted values.
    """

    name = "omse"
    title = "OMSE"
    fidelity = "paper"
    paper = "The OMSE observer in FQ-ViT, Lin et al., IJCAI 2022, arXiv 2111.13824"

    w_observer: Literal["minmax", "omse"] = "minmax"
    w_symmetric: bool = False

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the ranges of least error."""
        net = explicit(model, bits)
        observe_weights(net, symmetric=self.w_symmetric, estimate=self._weight_range())
        observe_activations(net, calibration, LeastError)
        return net.switch(True)

    def _weight_range(self) -> Callable[[Tensor, int], Range] | None:
        if self.w_observer == "minmax":
            return None
        return lambda rows, bits: least_error_range(rows, bits, symmetric=self.w_symmetric)
