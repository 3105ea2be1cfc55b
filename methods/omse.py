"""OMSE: shrink the min-max range to the least squared error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from vitptq import (
    BitSpec,
    Calibration,
    Method,
    Range,
    RunningMinMax,
    least_error,
    least_error_range,
    observe_activations,
    observe_weights,
    prepare,
)
from vitptq.methods.core.ranges.shrunk import shrunk


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
    parity_test = "tests/parity/test_fq_vit.py"
    paper = "The OMSE observer in FQ-ViT, Lin et al., IJCAI 2022, arXiv 2111.13824"

    w_observer: Literal["minmax", "omse"] = "minmax"
    w_symmetric: bool = False

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the ranges of least error."""
        net = prepare(model, bits)
        observe_weights(net, symmetric=self.w_symmetric, estimate=self._weight_range())
        observe_activations(net, calibration, LeastError)
        return net.switch(True)

    def _weight_range(self) -> Callable[[Tensor, int], Range] | None:
        if self.w_observer == "minmax":
            return None
        return lambda rows, bits: least_error_range(rows, bits, symmetric=self.w_symmetric)
