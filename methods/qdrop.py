"""QDrop: block reconstruction with activations quantised at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

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
    parity_test = "tests/parity/test_qdrop.py"
    inferred = (
        "the paper has no vision transformer: operands as in the standard protocol, units are the transformer blocks, "
        "the patch embedding and the head",
        "starts from uniform grids of least squared error among 90 shrunk ranges (form=released: of least |error|^2.4 "
        "among 100 widths with every zero point; of activations on up to 8,192 values of all batches, where the "
        "authors' code averages over batches)",
        "first and last layer have the nominal bits (8 in the paper and the released code)",
        "mini-batches are drawn without replacement; the loss of a transformer block is summed over its channels",
        "a unit whose error on the calibration set grew keeps its state before training (not with form=released)",
        "beside the authors' code, which is for convolutional networks, tests/parity/test_qdrop.py: ranges of both "
        "kinds, learned rounding and step sizes and their gradients, loss and schedules agree to 1e-5; one block of "
        "mini_vit, trained for 40 steps from equal grids on equal mini-batches, had 99.68 % of its hard weights equal "
        "to those of APHQ-ViT's repository, which has a QDrop for transformers; the whole method has not been compared",
    )
    paper = "Wei et al., QDrop, ICLR 2022, arXiv 2203.05740"
    trial: ClassVar = {"iterations": 10}

    form: Literal["paper", "released"] = "paper"
    """"released" starts from the ranges of the authors' code, and a unit keeps its training whatever its error."""
    scale_rate: float = 4e-5
    quantised_probability: float = 0.5
    """Of a value of an activation, and of the unit's input, to be quantised while the unit is trained."""
    rotation: Rotation = "none"
    """Rotate the float model first."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        released = self.form == "released"
        start = rotated(model, self.rotation, calibration.seed)
        net, twin = calibrated(start, calibration, bits, errors="power" if released else "squared")
        settings = replace(
            self.reconstruction(calibration), scale_rate=self.scale_rate,
            quantised_input_probability=self.quantised_probability, quantised_probability=self.quantised_probability,
            keep_better=not released,
        )  # fmt: skip
        reconstruct(net, twin, calibration, settings, units=all_units(net))
        return net.model
