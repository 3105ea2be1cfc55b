"""The calibrated model from which AdaRound, BRECQ and QDrop start: uniform grids of least error."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.ranges.estimation import Range, least_error
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights
from vitptq.methods.core.ranges.power_error import least_power_error, least_power_error_within
from vitptq.methods.core.ranges.shrunk import least_error_range, shrunk

SAMPLED = 200_000
"""How many values the search looks at, evenly spread; sorting more takes long and moves the range little."""
SAMPLED_FOR_POWERS = 8192
"""The same where every grid takes a pass over the values."""
ErrorKind = Literal["squared", "power"]
"""The error that a range keeps least: d^2 among 90 shrunk ranges, or |d|^2.4 among those with any zero point."""


class LeastErrorOfSample(RunningMinMax):
    """Min-max over all batches, shrunk by the factor of least squared error on some values of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []
        self.most = SAMPLED

    def see(self, x: Tensor, *, bits: int, last: bool) -> None:
        """Widen the range and keep some values; on the last batch, search."""
        super().see(x, bits=bits, last=last)
        self.kept.append(x[:, :: max(1, x.shape[1] // self.most)].clone())
        if last:
            values = torch.cat(self.kept, dim=1)
            self.low, self.high = self.searched(values[:, :: max(1, values.shape[1] // self.most)], bits)
            self.kept.clear()

    def searched(self, values: Tensor, bits: int) -> Range:
        """Return the range of least error on `values` (1, n), within that of all values."""
        return least_error(values, *shrunk(*self.range()), bits)


class LeastPowerErrorOfSample(LeastErrorOfSample):
    """The range of least |error|^2.4 on some values of all batches, with any zero point."""

    def __init__(self) -> None:
        super().__init__()
        self.most = SAMPLED_FOR_POWERS

    def searched(self, values: Tensor, bits: int) -> Range:
        """Return the range of least error on `values` (1, n), within that of all values."""
        return least_power_error_within(values, *self.range(), bits)


def calibrated(
    model: nn.Module, calibration: Calibration, bits: BitSpec, *, errors: ErrorKind = "squared"
) -> tuple[PreparedModel, PreparedModel]:
    """Return the model with uniform grids, switched on, and its float twin.

    Weights per output channel, activations per tensor (also behind a LayerNorm), both asymmetric: of the min-max range
    shrunk by 1, 0.99, ... 0.11, the one with the least squared error; or, by powers, as QDrop's released code has it.
    """
    net = prepare(model, bits)
    set_least_error_grids(net, calibration, errors=errors)
    return net, prepare(model, bits)


def set_least_error_grids(net: PreparedModel, calibration: Calibration, *, errors: ErrorKind = "squared") -> None:
    """Give every slot the grid that `calibrated` says, and switch it on; activations that have a grid keep it."""
    kept = {slot: slot.quantizer for slot in net.activations.values() if slot.quantizer is not None}
    powers = errors == "power"
    observe_weights(net, estimate=least_power_error if powers else least_error_range)
    observe_activations(net, calibration, LeastPowerErrorOfSample if powers else LeastErrorOfSample)
    for slot, quantizer in kept.items():
        slot.quantizer = quantizer
    net.switch(True)
