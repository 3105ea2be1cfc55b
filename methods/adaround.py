"""AdaRound: weights learn which way to round, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import nn

from vitptq import BitSpec, Calibration, RoundingMethod, all_units, calibrated, layer_units, reconstruct


@dataclass(frozen=True)
class AdaRound(RoundingMethod):
    """Each layer learns which weights to round up and which down, so that its output stays as it is in float.

    Only weights are trained, on what the layers before them give, those with rounded weights already. Activations are
    calibrated beforehand, in float, and join in the end. Loss: squared error of the layer's output plus a regulariser
    that makes every weight choose.
    """

    name = "adaround"
    title = "AdaRound"
    fidelity = "inferred"
    inferred = (
        "the paper has no vision transformer and keeps activations at 8 bits or in float: operands as in the standard "
        "protocol, activations with per-tensor grids of least squared error",
        "weights start from per-channel asymmetric grids of least squared error among 90 shrunk ranges (the paper: "
        "per tensor)",
        "the loss is that of the layer's output itself, without the activation function behind it",
        "a layer whose error on the calibration set grew keeps its weights",
        "not compared with the official code yet",
    )
    paper = "Nagel et al., AdaRound, ICML 2020, arXiv 2004.10568"
    trial: ClassVar = {"iterations": 6}
    paper_iterations: ClassVar = 10_000

    unit: Literal["layer", "block"] = "layer"
    """"block" learns the layers of a block together, by the error of the block's output."""
    activations: Literal["float", "quantised"] = "float"
    """Of the layers, while their weights learn; "quantised" lets the rounding see the error of the activations, too."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with learned rounding."""
        net, twin = calibrated(model, calibration, bits)
        settings = replace(
            self.reconstruction(calibration), scales=False, input="quantised", quantised_probability=1.0
        )  # fmt: skip
        for operand in net.activations.values():
            operand.on = self.activations == "quantised"
        units = layer_units(net) if self.unit == "layer" else all_units(net)
        reconstruct(net, twin, calibration, settings, units=units)
        return net.switch(True)
