"""BRECQ: block reconstruction weighted by the gradients of the predictions, weights first, activations after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import (
    BitSpec,
    Calibration,
    Loss,
    LossFor,
    PerSample,
    RoundingMethod,
    StepTensors,
    Unit,
    all_units,
    calibrated,
    power_error,
    reconstruct,
    squared_error,
)
from vitptq.bench.bits import FLOAT_BITS
from vitptq.methods.core.reconstruct.losses import channel_axis
from vitptq.methods.core.sensitivity.fisher import output_gradient_parts

Weighting = Literal["diagonal", "none"]


@dataclass(frozen=True)
class BRECQ(RoundingMethod):
    """Blocks learn how to round their weights; once the whole model has, they learn their activations' scales.

    1. Activations in float: AdaRound in each block on what the blocks before give it. The squared error of the block's
       output is weighted with squared gradients of the predictions' divergence from the float model's, per image.
    2. Activations quantised: the scales of each block, on float inputs, by the error |d|^2.4.
    """

    name = "brecq"
    title = "BRECQ"
    fidelity = "inferred"
    inferred = (
        "the paper has no vision transformer: operands as in the standard protocol, units are the transformer blocks, "
        "the patch embedding and the head",
        "gradients are scaled to a mean square of 1 (the released code squares |g| + 1, which for the small gradients "
        "of a transformer is next to no weight) and taken with the whole model quantised",
        "a layer that runs several times per image (a detector's head) is weighted evenly",
        "starts from uniform grids of least squared error among 90 shrunk ranges (the released code: power 2.4)",
        "first and last layer have the nominal bits (8 in the paper)",
        "a unit whose error on the calibration set grew keeps its state before training",
        "not compared with the official code yet",
    )
    paper = "Li et al., BRECQ, ICLR 2021, arXiv 2102.05426"
    trial: ClassVar = {"iterations": 6, "scale_iterations": 4}

    scale_iterations: int = 5_000
    scale_rate: float = 4e-4
    power: float = 2.4
    weighting: Weighting = "diagonal"
    """"none" is the plain squared error, which the released script for ImageNet uses."""
    scale_error: Literal["power", "weighted"] = "power"
    """What the scales are learned by: |d|^power as published, or the error that the rounding is learned by."""
    activations: Literal["float", "quantised"] = "float"
    """While the rounding is learned; "quantised" lets it see the error of the activations, too."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        net, twin = calibrated(model, calibration, bits)
        rounding = replace(
            self.reconstruction(calibration), scales=False, input="quantised", quantised_probability=1.0
        )  # fmt: skip
        scaling = replace(
            rounding, iterations=self.scale_iterations, weights="fixed", scales=True, scale_rate=self.scale_rate,
            input="float",
        )  # fmt: skip
        units = all_units(net)
        for operand in net.activations.values():
            operand.on = self.activations == "quantised"
        reconstruct(net, twin, calibration, rounding, loss=self._loss(), units=units, tag="rounding")
        net.switch(True)
        if bits.activations != FLOAT_BITS:
            loss = power_error(self.power) if self.scale_error == "power" else self._loss()
            reconstruct(net, twin, calibration, scaling, loss=loss, units=units, tag="scales")
        return net.model

    def _loss(self) -> LossFor:
        return squared_error if self.weighting == "none" else by_gradients


def by_gradients(unit: Unit) -> Loss:
    """Return the error of one unit weighted with G^2 per image: sum over channels, mean over images and positions."""
    weights = PerSample([gradient.square() for gradient in gradients(unit)])

    def loss(seen: StepTensors) -> Tensor:
        error = (seen.output - seen.target).square() * weights(seen.device_indices).to(seen.output)
        return error.sum(channel_axis(error, unit.module)).mean()

    return loss


def gradients(unit: Unit) -> list[Tensor]:
    """Return G per image, batch by batch, with a mean square of 1; the model's switches stay as they are."""
    if len(unit.plan.entries) != len({entry.batch for entry in unit.plan.entries}):
        return [torch.ones(unit.plan.samples, 1)]
    switched = {operand: operand.on for operand in unit.net.operands.values()}
    try:
        (parts,) = output_gradient_parts(unit.net, unit.calibration, [unit.module], "quantised")
    finally:
        for operand, on in switched.items():
            operand.on = on
    size = sum(part.numel() for part in parts)
    mean = torch.stack([part.double().square().sum() for part in parts]).sum() / size
    if not mean > 0:  # the unit does not reach the predictions: nothing to weight with
        return [torch.ones_like(part) for part in parts]
    return [part / mean.sqrt().to(part) for part in parts]
