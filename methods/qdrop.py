"""QDrop: block reconstruction with activations quantised at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, Method
from vitptq.methods.core.reconstruct import Settings, all_units, reconstruct
from vitptq.methods.core.reconstruct.base import calibrated, reduced
from vitptq.methods.core.reconstruct.settings import Autocast

ITERATIONS = 20_000


@dataclass(frozen=True)
class QDrop(Method):
    """Each block learns how to round its weights and how to scale its activations, to put out what it does in float.

    While a block is trained, each value of its input comes from the quantised or from the float model, and each
    activation is quantised or not, both with probability 0.5. Loss: squared error of the block's output, plus
    AdaRound's rounding term. The patch embedding and the head are trained as layers.
    """

    name = "qdrop"
    title = "QDrop"
    fidelity = "inferred"
    inferred = (
        "the paper has no vision transformer: operands as in the standard protocol, units are the transformer blocks, "
        "the patch embedding and the head",
        "starts from uniform grids of least squared error among 90 shrunk ranges (the released code: error with power "
        "2.4, ranges with their own zero points)",
        "first and last layer have the nominal bits (8 in the paper)",
        "mini-batches are drawn without replacement",
        "a unit whose error on the calibration set grew keeps its state before training",
        "not compared with the official code yet",
    )
    paper = "Wei et al., QDrop, ICLR 2022, arXiv 2203.05740"
    trial: ClassVar = {"iterations": 10}

    iterations: int = ITERATIONS
    """Steps per unit; small models need far fewer, but rounding must have settled: see docs/reconstruct.md."""
    batch: int = 32
    weight_rate: float = 1e-3
    """Learning rate of AdaRound's alpha."""
    scale_rate: float = 4e-5
    rounding_weight: float = 0.01
    warm_up: float = 0.2
    keep: float = 0.5
    """Probability that a value is quantised."""
    autocast: Autocast = "off"
    memory_mb: int = 4096
    """Host memory for cached inputs and targets; what is beyond goes to files."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        net, twin = calibrated(model, calibration, bits)
        settings = Settings(
            iterations=self.iterations, batch=self.batch, weight_rate=self.weight_rate, scale_rate=self.scale_rate,
            rounding_weight=self.rounding_weight, warm_up=self.warm_up, mix=self.keep, keep=self.keep,
            autocast=self.autocast, memory=self.memory_mb * 2**20, seed=torch.initial_seed(),
        )  # fmt: skip
        reconstruct(net, twin, calibration, settings, units=all_units(net))
        return net.model

    def notes(self) -> list[str]:
        """Say so where the steps are fewer than the paper's."""
        return reduced(self.iterations, ITERATIONS)
