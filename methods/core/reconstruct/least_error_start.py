"""The calibrated model from which AdaRound, BRECQ and QDrop start: uniform grids of least squared error."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.ranges.estimation import least_error
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights
from vitptq.methods.core.ranges.shrunk import least_error_range, shrunk

SAMPLED = 200_000
"""How many values the search looks at, evenly spread; sorting more takes long and moves the range little."""


class LeastErrorOfSample(RunningMinMax):
    """Min-max over all batches, shrunk by the factor of least squared error on some values of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def see(self, x: Tensor, *, bits: int, last: bool) -> None:
        """Widen the range and keep some values; on the last batch, search."""
        super().see(x, bits=bits, last=last)
        self.kept.append(x[:, :: max(1, x.shape[1] // SAMPLED)].clone())
        if last:
            values = torch.cat(self.kept, dim=1)
            values = values[:, :: max(1, values.shape[1] // SAMPLED)]
            self.low, self.high = least_error(values, *shrunk(*self.range()), bits)
            self.kept.clear()


def calibrated(model: nn.Module, calibration: Calibration, bits: BitSpec) -> tuple[PreparedModel, PreparedModel]:
    """Return the model with uniform grids, switched on, and its float twin.

    Weights per output channel, activations per tensor (also behind a LayerNorm), both asymmetric: of the min-max range
    shrunk by 1, 0.99, ... 0.11, the one with the least squared error.
    """
    net = prepare(model, bits)
    observe_weights(net, estimate=least_error_range)
    observe_activations(net, calibration, LeastErrorOfSample)
    net.switch(True)
    return net, prepare(model, bits)
