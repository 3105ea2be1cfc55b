"""MGRQ in our reading: block reconstruction with supervision from the predictions and from the layers inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import (
    BitSpec,
    Calibration,
    Linear,
    Loss,
    LossFor,
    MatMul,
    PreparedModel,
    StepTensors,
    Unit,
    WeightTrainingMethod,
    all_units,
    block_units,
    divergence,
    prepare,
    reconstruct,
    squared_error,
)
from vitptq.methods.core.reconstruct.float_predictions import (
    SHARE,
    Predictions,
    features_before_head,
    float_predictions,
    predictions_of_images,
)
from vitptq.methods.core.reconstruct.float_tail import Forward
from vitptq.methods.core.reconstruct.losses import Terms
from vitptq.methods.core.sensitivity import fisher
from vitptq.methods.core.sensitivity.fisher import are_logits, outputs
from vitptq.methods.repq_vit import RepQViT

Local = Literal["channels", "moments", "squared"]
Distance = Callable[[Tensor, Tensor], Tensor]
"""(what a quantised layer puts out, the same in float), each (..., tokens, channels), to a number."""

VARIANCE_FLOOR = 1e-12


@dataclass(frozen=True)
class MGRQ(WeightTrainingMethod):
    """Blocks are trained on three errors at once: of the block, of the model's predictions, of the layers inside.

    1. RepQ-ViT sets the grids; every block then trains its weights through the rounding, reading what the quantised
       model gives it, to put out what the float model's block does.
    2. Extra-block global supervision: the predictions of the frozen float model behind the block stay what they were.
    3. Intra-block local supervision: the distribution of each layer's outputs over the channels stays what it was.
    4. Mixed granularity loss fusion: each term is divided by its first value, then they are added.
    """

    name = "mgrq"
    title = "MGRQ (our reading)"
    fidelity = "inferred"
    inferred = (
        "everything but the idea: only the paper's abstract is known, there is no code, no equation and no result to "
        "compare with, and this is no reproduction",
        "block loss: squared error, quantised input, float target",
        "global supervision: divergence of the logits at temperature 1 through the frozen float tail; for detectors "
        "and segmenters the squared difference of the feature and prediction maps over their float variance, without "
        "the outputs per proposal of two-stage detectors",
        'global_target="features" supervises what the head reads instead, as GLF-Q does: the squared difference over '
        "the float variance",
        "local supervision: after the query-key-value, projection and MLP layers and the product with the values; "
        "divergence of the softmax over the channels",
        "fusion: 1 : 1 : 1 after dividing each term by its first value",
        "optimiser and schedule as in I&S-ViT: Adam, 4e-5, cosine, 1,000 steps of 64 images (200 from 6 bits on)",
        "grids as in RepQ-ViT, weights trained straight through the rounding; scales and LayerNorms frozen",
        "patch embedding and patch merging: squared error alone; head: divergence of the logits",
    )
    paper = "Yang et al., MGRQ, ICIP 2024, arXiv 2406.09229"
    trial: ClassVar = {"iterations": 5}

    rate: float = 4e-5
    """Learning rate of weights and biases; of AdaRound's alpha with `rounding="adaround"` (1e-3 is usual there)."""
    global_weight: float = 1.0
    """Of the predictions' term; 0 switches it off."""
    global_target: Literal["logits", "features"] = "logits"
    """What the global term compares: the predictions, or the features that the head reads."""
    local_weight: float = 1.0
    """Of the layers' term; 0 switches it off."""
    local: Local = "channels"
    """What of a layer's outputs is to stay: the distribution over the channels, mean and standard deviation per
    channel, or the values."""
    rounding: Literal["ste", "adaround"] = "ste"

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        net = RepQViT().calibrated(model, calibration, bits)
        twin = prepare(model, bits)
        adaround = self.rounding == "adaround"
        settings = replace(
            self.weight_training(calibration, bits), weights=self.rounding, biases=not adaround, input="quantised",
            weight_schedule="constant" if adaround else "cosine", normalise=1.0,
            term_weights={"global": self.global_weight, "local": self.local_weight},
            memory=self.memory_mb * 2**20 * (SHARE - 1) // SHARE,
        )  # fmt: skip
        loss = self.losses(net, twin, calibration)
        reconstruct(net, twin, calibration, settings, loss=loss, units=all_units(net))
        return net.model

    def losses(self, net: PreparedModel, twin: PreparedModel, calibration: Calibration) -> LossFor:
        """Return what makes the loss of a unit; the float model's predictions are computed here, once."""
        forward = self._forward(twin, calibration)
        memory = self.memory_mb * 2**20 // SHARE
        predictions = float_predictions(twin, calibration, forward, memory) if self.global_weight else None
        return partial(self.loss, blocks=frozenset(block_units(net)), forward=forward, predictions=predictions)

    def loss(self, unit: Unit, *, blocks: frozenset[str], forward: Forward, predictions: Predictions | None) -> Loss:
        """Return the loss of a unit: all terms for a block, the plain error for a layer outside, KL for the head.

        `forward` says what a model predicts; `predictions` are those of the float model, none without supervision.
        """
        if unit.final:
            return divergence(unit)
        plain = squared_error(unit)
        if unit.name not in blocks:
            return plain
        float_tail = None if predictions is None else unit.float_tail(forward)
        layers = local_layers(unit.module) if self.local_weight else {}
        unit.tap(*layers)
        distance = DISTANCES[self.local]
        apart = predictions_apart if self.global_target == "logits" else maps_apart

        def loss(seen: StepTensors) -> Terms:
            error = plain(seen)
            assert isinstance(error, Tensor)
            terms = {"block": error}
            if float_tail is not None and predictions is not None:
                actual = outputs(float_tail(seen.outputs, seen.device_indices))
                terms["global"] = apart(actual, predictions(seen.device_indices))
            if layers:
                pairs = [(as_tokens(m, seen.inner[n]), as_tokens(m, seen.inner_targets[n])) for n, m in layers.items()]
                terms["local"] = torch.stack([distance(out, target) for out, target in pairs]).mean()
            return terms

        return loss

    def _forward(self, twin: PreparedModel, calibration: Calibration) -> Forward:
        """Return what computes that which the global term compares."""
        if self.global_target == "features":
            return features_before_head(twin)
        return predictions_of_images(calibration, twin)

    def notes(self) -> list[str]:
        """Say whose reading this is, and where the steps are fewer than usual."""
        return [*super().notes(), "our reading of the abstract: no number of the paper is known to compare with"]


def local_layers(block: nn.Module) -> Mapping[str, nn.Module]:
    """Return the layers of a block whose outputs are supervised: linear ones, and the product with the values."""
    found = {name: module for name, module in block.named_modules() if isinstance(module, Linear)}
    products = {n: m for n, m in block.named_modules() if isinstance(m, MatMul) and m.left_operand.role == "softmax"}
    return found | products


def as_tokens(layer: nn.Module, x: Tensor) -> Tensor:
    """Arrange what a layer puts out as (..., tokens, channels); the heads of a product are joined."""
    return x.transpose(1, 2).flatten(2) if isinstance(layer, MatMul) else x


def channel_divergence(out: Tensor, target: Tensor) -> Tensor:
    """Return KL(softmax(target) || softmax(out)) over the channels, mean over everything else."""
    expected = target.flatten(0, -2).softmax(-1)
    return nn.functional.kl_div(out.flatten(0, -2).log_softmax(-1), expected, reduction="batchmean")


def moment_distance(out: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance of each channel's mean and standard deviation over tokens and images."""
    pairs = [(x.flatten(0, -2).mean(0), x.flatten(0, -2).std(0)) for x in (out, target)]
    (mean, std), (wanted_mean, wanted_std) = pairs
    return (mean - wanted_mean).square().mean() + (std - wanted_std).square().mean()


def squared_distance(out: Tensor, target: Tensor) -> Tensor:
    """Return the squared error, summed over channels, mean over everything else."""
    return (out - target).square().sum(-1).mean()


DISTANCES: dict[Local, Distance] = {
    "channels": channel_divergence,
    "moments": moment_distance,
    "squared": squared_distance,
}


def predictions_apart(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> Tensor:
    """Return how far predictions are apart: KL for logits; for maps the squared difference over the float variance."""
    if are_logits(expected):
        return fisher.divergence(actual, expected)
    return maps_apart(actual, expected)


def maps_apart(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> Tensor:
    """Return the squared difference of maps or features over the float variance of each, added."""
    pairs = zip(actual, expected, strict=True)
    return torch.stack([(a - e).square().mean() / e.var().clamp_min(VARIANCE_FLOOR) for a, e in pairs]).sum()
