"""APHQ-ViT: ReLU in place of GELU, and block reconstruction weighted by the importance of the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, Method
from vitptq.bench.contracts.reporting import note, note_details
from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.reconstruct import (
    Loss,
    LossFor,
    Settings,
    StepTensors,
    Unit,
    all_units,
    divergence,
    reconstruct,
    squared_error,
)
from vitptq.methods.core.reconstruct.base import reduced
from vitptq.methods.core.reconstruct.losses import Terms
from vitptq.methods.core.reconstruct.relu_mlp import mlps_of, reconstruct_mlps
from vitptq.methods.core.reconstruct.settings import Autocast
from vitptq.methods.core.search.bound_search import search_bounds
from vitptq.methods.core.search.product_search import FirstImages, each_operator
from vitptq.methods.core.search.progressive import Progress
from vitptq.methods.core.search.uniform_search import fold_norms, refuse_float_sides, search_layer
from vitptq.methods.core.sensitivity.fisher import fisher_mc
from vitptq.methods.core.sensitivity.perturbation_hessian import (
    agreement,
    average_perturbation_hessian,
    growth,
    relative,
    statistics,
)

ITERATIONS = 20_000
FIRST_LOSS = 2.0
"""What the reconstruction term is at the first step."""
CHECKED = 32
"""Images with which the importance is told from noise."""
APH_TEXT = (
    "H is the published importance: the difference of two gradients of the predictions' divergence, at outputs moved "
    "up and down by the perturbation. If it measured curvature, ten times the perturbation would give ten times the H. "
    "A factor far below 10 means rounding noise: it does not ask how far the outputs were moved."
)
FISHER_TEXT = (
    "The Fisher diagonal was drawn twice as well: a correlation near 1 of the two means that it belongs to the model "
    f"and not to the draw. Both checks look at {CHECKED} images; mean, quantiles and the share of zeros are H's."
)


@dataclass(frozen=True)
class APHQViT(Method):
    """Blocks are trained by their squared error weighted with its importance for the predictions, as in QDrop.

    1. Importance H of every output value of every block, an average over the images, from the float model.
    2. Every GELU becomes a ReLU; the two layers of each MLP are trained to put out what they did, also with hidden
       values clamped to a quantile, so that the second layer's input gets a smaller range.
    3. Scale search, uniform grids throughout; per-channel grids behind LayerNorm are folded.
    4. Block reconstruction with QDrop's mixing, AdaRound and learned scales; the loss is mean(d^2 H), twice its value
       at the first step. The head: divergence of the logits. Targets are those of the model with GELU.
    """

    name = "aphq-vit"
    title = "APHQ-ViT"
    fidelity = "paper"
    inferred = (
        'importance "aph" is the released recipe; what it measures is rounding noise, because a constant added to all '
        "channels of a token is taken off by the LayerNorms before any prediction, so it depends on the device and the "
        'batches; "fisher" is the diagonal of the Hessian that the paper means',
        "temperature 20 in the importance, from the released code; the paper states none",
        "for detectors and segmenters the divergence is the squared difference of the outputs over their variance",
        "neck and heads, where a bit spec names them, have the plain squared error",
        "where images differ in size, importance is per channel; where H is 0, the error is not weighted and a note "
        "says so",
        "all MLPs are reconstructed first, on float inputs (released code); the paper goes block by block",
        "zero points are searched around that of the range (released code: around the middle code, which loses codes "
        "of one-sided tensors from 6 bits on); a tensor without negative values has the zero point 0",
        "LayerNorms are folded at every bit spec (released code: only where weights and activations have equal bits)",
        "output errors are computed on up to 16,384 evenly spread rows of a linear layer's input",
        "convolutions: weights and input by their own squared error; the image enters at 8 bits, not in float",
        "clamp quantile 0.99 throughout (released code: 0.98 at 4 and 2 bits, 0.999 on COCO); no scales per token at "
        "2 bits",
        "mini-batches are drawn without replacement; a unit whose error on the calibration set grew keeps its state "
        "before training",
        "not compared with the official code yet",
    )
    paper = "Wu et al., APHQ-ViT, CVPR 2025, arXiv 2504.02508"
    trial: ClassVar = {"iterations": 4, "mlp_iterations": 4, "rounds": 1, "candidates": 32, "draws": 1}

    importance: Literal["aph", "fisher"] = "aph"
    """"aph" as published, two passes per unit; "fisher" by drawing predictions, `draws` backward passes in all."""
    mlp: bool = True
    """Replace GELU by ReLU and reconstruct the MLPs."""
    iterations: int = ITERATIONS
    """Steps per block."""
    mlp_iterations: int = ITERATIONS
    """Steps per MLP."""
    batch: int = 32
    search_images: int = 128
    rounds: int = 3
    candidates: int = 128
    temperature: float = 20.0
    perturbation: float = 1e-6
    draws: int = 4
    """Drawn predictions per image for the Fisher diagonal, which "aph" is compared with in the record."""
    clamp_percentile: float = 0.99
    clamp_weight: float = 2.0
    mlp_rate: float = 4e-5
    weight_rate: float = 1e-3
    scale_rate: float = 4e-5
    rounding_weight: float = 0.01
    warm_up: float = 0.2
    keep: float = 0.5
    """Probability that a value is quantised."""
    autocast: Autocast = "off"
    memory_mb: int = 4096

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        net, twin = prepare(model, bits), prepare(model, bits)
        refuse_float_sides(net, "APHQ-ViT")
        mlps = [mlp.whole for mlp in mlps_of(net)] if self.mlp else []
        weights = self.weights(twin, calibration, [*backbone_units(net), *mlps])
        settings = self.settings()
        if self.mlp:
            alone = replace(
                settings, iterations=self.mlp_iterations, weights="ste", weight_rate=self.mlp_rate,
                weight_schedule="cosine", biases=True, scales=False, input="float", keep=1.0, normalise=None,
                term_weights={"clamped": self.clamp_weight},
            )  # fmt: skip
            reconstruct_mlps(net, twin, calibration, alone, weights, percentile=self.clamp_percentile)
        self.search(net, FirstImages(calibration, self.search_images))
        net.switch(True)
        reconstruct(net, twin, calibration, settings, loss=weighted_by(weights), units=all_units(net))
        return net.model

    def settings(self) -> Settings:
        """Return the settings of the block reconstruction."""
        return Settings(
            iterations=self.iterations, batch=self.batch, weight_rate=self.weight_rate, scale_rate=self.scale_rate,
            rounding_weight=self.rounding_weight, warm_up=self.warm_up, mix=self.keep, keep=self.keep,
            normalise=FIRST_LOSS, autocast=self.autocast, memory=self.memory_mb * 2**20, seed=torch.initial_seed(),
        )  # fmt: skip

    def weights(self, twin: PreparedModel, calibration: Calibration, units: list[str]) -> dict[str, Tensor | None]:
        """Return each unit's importance relative to its mean, and tell the record about it."""
        draw = torch.Generator(calibration.device).manual_seed(torch.initial_seed())
        fisher = fisher_mc(
            twin, calibration, units, draws=self.draws, temperature=self.temperature, generator=draw
        )  # fmt: skip
        if self.importance == "fisher":
            maps, figures = fisher, statistics(fisher)
        else:
            maps = average_perturbation_hessian(
                twin, calibration, units, temperature=self.temperature, epsilon=self.perturbation
            )
            figures = statistics(maps, fisher)
        self.tell(twin, FirstImages(calibration, CHECKED), figures)
        return {name: relative(h) for name, h in maps.items()}

    def tell(self, twin: PreparedModel, some: Calibration, figures: Mapping[str, JsonValue]) -> None:
        """Put the importance on the run's page, beside what tells a property of the model from rounding noise."""
        units = list(figures)
        columns: dict[str, Mapping[str, JsonValue]] = {}
        text = FISHER_TEXT
        if self.importance == "aph":
            text = f"{APH_TEXT} {FISHER_TEXT}"
            columns["H grows by"] = growth(twin, some, units, temperature=self.temperature, epsilon=self.perturbation)
        columns["two Fisher diagonals correlate"] = agreement(
            twin, some, units, draws=self.draws, temperature=self.temperature, seed=torch.initial_seed()
        )
        rows: list[JsonValue] = []
        for name in units:
            own = figures[name]
            assert isinstance(own, dict)
            more = {column: values[name] for column, values in columns.items()}
            rows.append({"unit": name, **more, **own})
        note_details("importance", {"kind": self.importance, "text": text, "rows": rows})

    def search(self, net: PreparedModel, calibration: Calibration) -> None:
        """Fold the LayerNorms and give every slot its quantizer."""
        progress = Progress(self.candidates, steps=1)
        fold_norms(net, calibration, progress)
        for _, operator, reads in each_operator(net, calibration):
            if isinstance(operator, MatMul):
                search_bounds(operator, reads, self.candidates, self.rounds)
            else:
                search_layer(operator, reads, progress, self.rounds)

    def notes(self) -> list[str]:
        """Say so where the steps are fewer than the paper's."""
        fewer = reduced(self.iterations, ITERATIONS)
        if self.mlp and self.mlp_iterations < ITERATIONS:
            fewer.append(f"reduced: {self.mlp_iterations} steps per MLP, the paper takes {ITERATIONS}")
        return fewer


def backbone_units(net: PreparedModel) -> list[str]:
    """Return the units outside the neck and the heads of a detector or segmenter, those of the backbone."""
    backbone = replace(net.bits, parts=())
    return [name for name in all_units(net) if not backbone.leaves(name)]


def weighted_by(weights: Mapping[str, Tensor | None]) -> LossFor:
    """Return the losses of all units: mean(d^2 H); the divergence of the logits for the head.

    A unit that is not in `weights`, has several outputs, or no importance, has the plain squared error.
    """

    def make(unit: Unit) -> Loss:
        if unit.final:
            return divergence(unit)
        plain, weight = squared_error(unit), weights.get(unit.name)
        if weight is None:
            if unit.name in weights:
                note(f"{unit.name} has no importance, so its error is not weighted")
            return plain
        if weight.ndim == 1 and isinstance(unit.module, nn.Conv2d):
            weight = weight[:, None, None]

        def loss(seen: StepTensors) -> Terms:
            if len(seen.outputs) > 1:
                return plain(seen)
            return ((seen.output - seen.target).square() * weight).mean()

        return loss

    return make
