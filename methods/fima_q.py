"""FIMA-Q: block reconstruction with a Fisher loss of low rank plus a diagonal, renewed while a block is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from torch import nn

from vitptq import (
    BadInput,
    BitSpec,
    Calibration,
    Loss,
    RoundingMethod,
    Settings,
    Unit,
    all_units,
    divergence,
    prepare,
    reconstruct,
)
from vitptq.methods.aphq_vit import APHQViT, backbone_units
from vitptq.methods.core.model.rotation import Rotation, rotated
from vitptq.methods.core.ranges.per_token import spread_over_tokens
from vitptq.methods.core.reconstruct.float_predictions import (
    SHARE,
    Predictions,
    float_predictions,
    predictions_of_images,
)
from vitptq.methods.core.reconstruct.float_tail import Forward
from vitptq.methods.core.reconstruct.losses import squared_error
from vitptq.methods.core.reconstruct.low_rank_fisher import low_rank_fisher
from vitptq.methods.core.reconstruct.method_settings import ITERATIONS, reduced
from vitptq.methods.core.search.recording import FirstImages
from vitptq.methods.core.search.uniform_search import refuse_float_sides
from vitptq.methods.glf_q import GLFQ


@dataclass(frozen=True)
class FIMAQ(RoundingMethod):
    """Blocks are trained as in QDrop; their error is weighted by first-order gradients of the predictions' divergence.

    1. Scale search as in APHQ-ViT, uniform grids throughout; per-channel grids behind LayerNorm are folded.
    2. Block reconstruction with QDrop's mixing, AdaRound and learned scales. The loss is a quadratic form in the error
       of the block's output: a diagonal, and a part of low rank. Every few steps, k times in all, a pass over the
       calibration images with this block alone quantised adds a row to both, and each is divided by its value then.
    3. The head: divergence of the logits.
    """

    name = "fima-q"
    title = "FIMA-Q"
    fidelity = "paper"
    inferred = (
        "from the released code's equations; nothing has been run beside it yet",
        'scales per tensor, and per head in attention products, by default; scales="token" is what the released '
        "settings have, one static scale per token (per head and token, of values per channel), one zero point for all",
        "k = 5 as in the released settings (a released checkpoint is named after rank 15); no more than k renewals",
        "where the newest row makes the errors' products worse conditioned than 1e6, it is left out of the low rank, "
        "and the record says so",
        "both terms' maps are divided by the largest gradient, which no step sees",
        "zero points are searched around that of the range (released code: around the middle code); the image enters "
        "at 8 bits, not in float; LayerNorms are folded at every bit spec",
        "detectors and segmenters, of which no code was released: the divergence is the squared difference of the "
        "outputs over their variance, of two-stage detectors without the outputs per proposal; where images differ in "
        "size the maps are per channel; neck and heads have the plain squared error",
        "mini-batches are drawn without replacement; a unit behind which the predictions moved further apart than "
        "before its training keeps its state before",
    )
    paper = "Wang et al., FIMA-Q, CVPR 2025, arXiv 2506.11543"
    trial: ClassVar = {"iterations": 4, "renewals": 2, "rounds": 1, "candidates": 32}

    scales: Literal["tensor", "token"] = "tensor"
    renewals: int = 5
    """k, the largest rank."""
    low_rank_weight: float = 1.0
    diagonal_weight: float = 1.0
    temperature: float = 20.0
    """Of the logits in the divergence whose gradients are taken."""
    search_images: int = 128
    rounds: int = 3
    candidates: int = 128
    scale_rate: float = 4e-5
    quantised_probability: float = 0.5
    """Of a value of an activation, and of a block's input, to be quantised while the block is trained."""
    rotation: Rotation = "none"
    """Rotate the float model first."""
    mlp: bool = False
    """Replace GELU by ReLU and reconstruct the MLPs, as GLF-Q does; with a rotation a row of its paper."""
    mlp_iterations: int = ITERATIONS
    mlp_rate: float = 4e-5

    def __post_init__(self) -> None:
        """Refuse a loss that is never made."""
        if self.renewals < 1:
            raise BadInput(f"renewals={self.renewals} of fima-q: allowed is 1 or more, the rank grows by one at each")

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        turned = rotated(model, self.rotation, calibration.seed)
        net, twin = prepare(turned, bits), prepare(turned, bits)
        refuse_float_sides(net, self.title)
        if self.mlp:
            GLFQ(
                batch=self.batch, mlp_iterations=self.mlp_iterations, mlp_rate=self.mlp_rate, memory_mb=self.memory_mb
            ).reconstruct_mlps(net, twin, calibration)
        search = APHQViT(candidates=self.candidates, rounds=self.rounds)
        search.search(net, FirstImages(calibration, self.search_images))
        if self.scales == "token":
            spread_over_tokens(net, calibration)
        net.switch(True)
        forward = predictions_of_images(calibration, twin)
        expected = float_predictions(twin, calibration, forward, self.memory_mb * 2**20 // SHARE)
        loss = partial(self.loss, weighted=frozenset(backbone_units(net)), forward=forward, expected=expected)
        reconstruct(net, twin, calibration, self.block_settings(calibration), loss=loss, units=all_units(net))
        return net.model

    def loss(self, unit: Unit, *, weighted: frozenset[str], forward: Forward, expected: Predictions) -> Loss:
        """Return the loss of a unit: the divergence for the head, the plain squared error outside the backbone."""
        if unit.final:
            return divergence(unit)
        if unit.name not in weighted:
            return squared_error(unit)
        return low_rank_fisher(
            unit, forward, expected, temperature=self.temperature, iterations=self.iterations, renewals=self.renewals
        )

    def block_settings(self, calibration: Calibration) -> Settings:
        """Return how units are trained."""
        return replace(
            self.reconstruction(calibration), scale_rate=self.scale_rate, normalise=1.0,
            quantised_input_probability=self.quantised_probability, quantised_probability=self.quantised_probability,
            term_weights={"low rank": self.low_rank_weight, "diagonal": self.diagonal_weight},
            memory=self.memory_mb * 2**20 * (SHARE - 1) // SHARE,
        )  # fmt: skip

    def notes(self) -> list[str]:
        """Say so where the steps are fewer than the paper's."""
        mlp = reduced(self.mlp_iterations, ITERATIONS, "MLP") if self.mlp else []
        return [*super().notes(), *mlp]
