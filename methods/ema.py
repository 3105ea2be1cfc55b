"""Exponential moving average of the batch extremes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vitptq import BitSpec, Calibration, Method, Observer, Range, min_max, observe_activations, observe_weights, prepare


class MovingAverage(Observer):
    """An estimate of each batch's range, averaged: `r += momentum * (r_t - r)`, starting at the first batch."""

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self.ends: Range | None = None

    def see(self, x: Tensor, *, bits: int, last: bool) -> None:
        """Move the range towards that of `x`."""
        low, high = self.estimate(x)
        if self.ends is None:
            self.ends = low, high
        else:
            self.ends = self.ends[0].lerp(low, self.momentum), self.ends[1].lerp(high, self.momentum)

    def estimate(self, x: Tensor) -> Range:
        """Return the range of one batch."""
        return min_max(x)

    def range(self) -> Range:
        """Return the averaged range."""
        assert self.ends is not None, "range() before any batch"
        return self.ends


@dataclass(frozen=True)
class EMA(Method):
    """Activations: moving average of each batch's extremes. Weights: min-max per output channel.

    With the published momentum of 0.01 the first of ten batches still weighs 91 %, and with a single batch the method
    is MinMax: the standard track has one batch, so the rows agree there.
    """

    name = "ema"
    title = "EMA"
    fidelity = "paper"
    parity_test = "tests/parity/test_fq_vit.py"
    paper = "The EMA observer in FQ-ViT, Lin et al., IJCAI 2022, arXiv 2111.13824"

    momentum: float = 0.01
    w_symmetric: bool = False

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with averaged ranges."""
        net = prepare(model, bits)
        observe_weights(net, symmetric=self.w_symmetric)
        observe_activations(net, calibration, lambda: MovingAverage(self.momentum))
        return net.switch(True)
