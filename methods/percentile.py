"""Percentile ranges: a few extreme values are given up for a finer step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vitptq import BitSpec, Calibration, Method, Range, observe_activations, observe_weights, percentile, prepare
from vitptq.methods.ema import MovingAverage


class MovingPercentile(MovingAverage):
    """Moving average of each batch's percentile range."""

    def __init__(self, fraction: float, momentum: float) -> None:
        super().__init__(momentum)
        self.fraction = fraction

    def estimate(self, x: Tensor) -> Range:
        """Return the percentile range of one batch."""
        return percentile(x, self.fraction)


@dataclass(frozen=True)
class Percentile(Method):
    """Activations: the (1 - p) and p quantiles of each batch, averaged as in EMA. Weights: min-max per output channel.

    The published p is 0.99999. It cuts about one value in 100,000 on each side; on small models, whose tensors have few
    values, that is close to min-max.
    """

    name = "percentile"
    title = "Percentile"
    fidelity = "paper"
    parity_test = "tests/parity/test_fq_vit.py"
    paper = "The percentile observer in FQ-ViT, Lin et al., IJCAI 2022, arXiv 2111.13824"

    fraction: float = 0.99999
    momentum: float = 0.01
    w_symmetric: bool = False

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with percentile ranges."""
        net = prepare(model, bits)
        observe_weights(net, symmetric=self.w_symmetric)
        observe_activations(net, calibration, lambda: MovingPercentile(self.fraction, self.momentum))
        return net.switch(True)
