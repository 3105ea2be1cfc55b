"""GLF-Q: rotation, ReLU in place of GELU, and blocks trained on the features before the head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import (
    BitSpec,
    Calibration,
    Loss,
    PreparedModel,
    Settings,
    StepTensors,
    Unit,
    block_units,
    prepare,
    reconstruct,
    squared_error,
)
from vitptq.bench.bits import FLOAT_BITS
from vitptq.methods.core.model.rotation import Rotation, rotated, rotates_stream
from vitptq.methods.core.reconstruct.float_predictions import (
    SHARE,
    Predictions,
    features_before_head,
    float_predictions,
    predictions_of_images,
)
from vitptq.methods.core.reconstruct.float_tail import Forward
from vitptq.methods.core.reconstruct.least_error_start import set_least_error_grids
from vitptq.methods.core.reconstruct.low_rank_fisher import low_rank_fisher
from vitptq.methods.core.reconstruct.method_settings import ITERATIONS, ReconstructionMethod, reduced
from vitptq.methods.core.reconstruct.relu_mlp import reconstruct_mlps
from vitptq.methods.core.search.fpcs import FPCSBudget
from vitptq.methods.core.search.recording import FirstImages
from vitptq.methods.core.search.uniform_search import fold_norms
from vitptq.methods.core.sensitivity.fisher import outputs

PAPER_ITERATIONS = 3000
VARIANCE_FLOOR = 1e-12


@dataclass(frozen=True)
class GLFQ(ReconstructionMethod):
    """Rotated blocks are trained to keep the features before the head, and their own output; uniform grids.

    1. The residual stream and the heads are rotated (Swin: the heads, and per-channel grids behind LayerNorm are
       folded).
    2. Every GELU becomes a ReLU; the two layers of each MLP are trained in float to put out what they did.
    3. Uniform grids, one per output channel of a weight and one per activation.
    4. Block by block, behind the quantised ones, weights (straight through the rounding) and activation scales are
       trained: L = G / G_1 + 2 L / L_1, the squared errors of the features before the head, computed by the frozen
       float model behind the block, and of the block's output, each over its value at the first step.
    """

    name = "glf-q"
    title = "GLF-Q"
    fidelity = "paper"
    inferred = (
        "no code was published; nothing has been compared with the authors' numbers yet",
        "grids start from the least squared error among 90 shrunk ranges (the paper says calibrated)",
        "both learning rates fall to 0 along a cosine, biases are trained with the weights' rate (not stated)",
        "patch embedding and head are calibrated, not trained; the image enters at 8 bits, the head has the nominal "
        "width (not stated)",
        "where the residual stream is not rotated, per-channel grids behind LayerNorm are folded as in RepQ-ViT; "
        "before the training mean and median scale are the same",
        "each head has matrices of its own, all drawn from the seed",
        "detectors and segmenters: the maps that the heads read stand for the features (in the paper box and mask RoI "
        "features of up to 1,000 and 128 proposals); each level over its float variance; the neck has the local term",
        "a unit whose error on the calibration set grew keeps its state before training",
    )
    paper = "Sun et al., GLF-Q, 2026 preprint"
    trial: ClassVar = {"iterations": 4, "mlp_iterations": 4}

    iterations: int = PAPER_ITERATIONS
    """Steps per block."""
    rate: float = 2e-5
    """Learning rate of weights and biases."""
    scale_rate: float = 2e-4
    supervision: Literal["features", "logits", "fisher", "none"] = "features"
    """What the float model behind a block is asked for; "none" leaves the block's own error, "fisher" has FIMA-Q's loss
    (five renewals, temperature 20) in the place of both terms."""
    local_weight: float = 2.0
    """Of the block's own error; 0 leaves it out."""
    mlp: bool = True
    """Replace GELU by ReLU and reconstruct the MLPs."""
    mlp_iterations: int = ITERATIONS
    mlp_rate: float = 4e-5
    clamp_percentile: float = 0.99
    clamp_weight: float = 2.0
    rotation: Rotation = "full"
    fold_images: int = 128
    """From which the per-channel grids behind LayerNorm are taken, where they are folded."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        turned = rotated(model, self.rotation, calibration.seed)
        net, twin = prepare(turned, bits), prepare(turned, bits)
        if self.mlp:
            self.reconstruct_mlps(net, twin, calibration)
        if bits.activations != FLOAT_BITS and not rotates_stream(model, self.rotation):
            fold_norms(net, FirstImages(calibration, self.fold_images), FPCSBudget(steps=1))
        set_least_error_grids(net, calibration)
        backbone = replace(bits, parts=())
        units = [name for name in block_units(net) if name == "neck" or not backbone.leaves(name)]
        features = self.supervision == "features"
        forward = features_before_head(twin) if features else predictions_of_images(calibration, twin)
        expected = None
        if self.supervision != "none":
            expected = float_predictions(twin, calibration, forward, self.memory_mb * 2**20 // SHARE)
        loss = partial(self.loss, forward=forward, expected=expected)
        reconstruct(net, twin, calibration, self.block_settings(calibration), loss=loss, units=units)
        return net.model

    def loss(self, unit: Unit, *, forward: Forward, expected: Predictions | None) -> Loss:
        """Return the loss of a unit: its own error alone for the neck, or where nothing is `expected`."""
        own = squared_error(unit)
        if expected is None or unit.name == "neck":
            return own
        if self.supervision == "fisher":
            return low_rank_fisher(unit, forward, expected, iterations=self.iterations)
        float_tail = unit.float_tail(forward)

        def loss(seen: StepTensors) -> Mapping[str, Tensor]:
            found = outputs(float_tail(seen.outputs, seen.device_indices))
            terms = {"global": features_apart(found, expected(seen.device_indices))}
            local = own(seen)
            assert isinstance(local, Tensor)
            return terms | {"local": local} if self.local_weight else terms

        return loss

    def reconstruct_mlps(self, net: PreparedModel, twin: PreparedModel, calibration: Calibration) -> None:
        """Give `net` ReLUs and train its MLPs, in float, to put out what those of `twin` do."""
        settings = replace(
            self.reconstruction(calibration), iterations=self.mlp_iterations, weights="ste",
            weight_rate=self.mlp_rate, weight_schedule="cosine", biases=True, scales=False, input="float",
            quantised_probability=1.0, term_weights={"clamped": self.clamp_weight},
        )  # fmt: skip
        reconstruct_mlps(net, twin, calibration, settings, {}, percentile=self.clamp_percentile)

    def block_settings(self, calibration: Calibration) -> Settings:
        """Return how blocks are trained: on quantised inputs, nothing dropped."""
        return replace(
            self.reconstruction(calibration), iterations=self.iterations, weights="ste", weight_rate=self.rate,
            weight_schedule="cosine", biases=True, scale_rate=self.scale_rate, input="quantised",
            quantised_probability=1.0, normalise=1.0, term_weights={"local": self.local_weight},
            memory=self.memory_mb * 2**20 * (SHARE - 1) // SHARE,
        )  # fmt: skip

    def notes(self) -> list[str]:
        """Say so where the steps are fewer than the paper's."""
        mlp = reduced(self.mlp_iterations, ITERATIONS, "MLP") if self.mlp else []
        return [*reduced(self.iterations, PAPER_ITERATIONS), *mlp]


def features_apart(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> Tensor:
    """Return the mean squared error of the features; of several maps the sum, each over its float variance."""
    pairs = zip(found, expected, strict=True)
    if len(expected) == 1:
        return torch.stack([(x - y).square().mean() for x, y in pairs]).sum()
    return torch.stack([(x - y).square().mean() / y.var().clamp_min(VARIANCE_FLOOR) for x, y in pairs]).sum()
