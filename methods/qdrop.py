"""QDrop: block reconstruction with activations quantised at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from vitptq import BitSpec, Calibration, RoundingMethod, all_units, calibrated, reconstruct
from vitptq.methods.core.model.rotation import Rotation, rotated


@dataclass(frozen=True)
class QDrop(RoundingMethod):
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
        "beside the official port to transformers, tests/parity/test_qdrop.py: ranges, learned rounding and step "
        "sizes and their gradients, loss and schedules agree to 1e-5; one block of mini_vit, trained for 40 steps "
        "from equal grids on equal mini-batches, had 99.68 % of its hard weights equal; the whole method has not "
        "been compared",
    )
    paper = "Wei et al., QDrop, ICLR 2022, arXiv 2203.05740"
    trial: ClassVar = {"iterations": 10}

    scale_rate: float = 4e-5
    quantised_probability: float = 0.5
    """Of a value of an activation, and of the unit's input, to be quantised while the unit is trained."""
    rotation: Rotation = "none"
    """Rotate the float model first."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        net, twin = calibrated(rotated(model, self.rotation, calibration.seed), calibration, bits)
        settings = replace(
            self.reconstruction(calibration), scale_rate=self.scale_rate,
            quantised_input_probability=self.quantised_probability, quantised_probability=self.quantised_probability,
        )  # fmt: skip
        reconstruct(net, twin, calibration, settings, units=all_units(net))
        return net.model
