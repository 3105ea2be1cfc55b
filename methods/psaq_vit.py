"""PSAQ-ViT: calibration images generated from the float model alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitptq import (
    BitSpec,
    Calibration,
    DataFree,
    Method,
    PreparedModel,
    RunningMinMax,
    observe_activations,
    observe_weights,
    prepare,
    run_time,
)
from vitptq.methods.core.datafree.generate import GeneratedImages, Recipe, generate
from vitptq.methods.core.datafree.kept_images import generated_or_kept
from vitptq.methods.core.datafree.similarity import Entropy


@dataclass(frozen=True)
class PsaqVit(Method):
    """Optimise noise until the model's patches differ as they do in pictures, then calibrate min-max with it.

    Images maximise the entropy of the similarities between the attention outputs of different patches, summed over all
    blocks, under a cross-entropy to random classes and a total variation near a drawn target; each step sees them
    shifted and perhaps mirrored. Weights are symmetric per output channel, activations asymmetric per tensor, on the
    operand map of the standard track (the paper also quantises the residual stream and leaves the softmax in float).

    The published constants belong to 224 pixels and ImageNet's normalisation; total variation and shifts are scaled to
    the model's input. Generated images are rounded to 8 bits per channel before they calibrate, so that the pictures
    kept beside the evidence repeat the calibration exactly.
    """

    name = "psaq-vit"
    title = "PSAQ-ViT"
    fidelity = "paper"
    parity_test = "tests/parity/test_psaq_vit.py"
    inferred = (
        "beside the official code, tests/parity/test_psaq_vit.py: entropy of patch similarity, total variation, class "
        "loss, step sizes and clipping agree to 1e-5 (the entropy's gradient to 1e-4); not compared: generated images "
        "and the quantised model",
    )
    category = "data-free"
    paper = (
        "Li et al., Patch Similarity Aware Data-Free Quantization for Vision Transformers, ECCV 2022, arXiv 2203.02250"
    )
    trial: ClassVar = {"batch": 4, "steps": 5}

    batch: int = 32
    """Images; this one batch is the whole calibration set."""
    rounds: int = 2
    steps: int = 500
    """Steps per round."""
    rate: float | None = None
    """Step size of Adam; null: 0.20, or 0.25 where attention works in windows."""
    one_hot: float = 1.0
    """Weight of the class term; 0 leaves it out."""
    variation: float = 0.05
    kde_points: int = 10
    """Points of the density's grid: 10 as published; 100 resolves spread-out similarities."""
    budget_mib: float = run_time(256.0)
    """Memory for patch similarities at any time."""
    kept: str = ""
    """An .npz of earlier generated images to calibrate with; nothing is generated then."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with min-max ranges from generated images."""
        given = DataFree(calibration.input, calibration.device, calibration.seed)
        net = prepare(model, bits)
        images = generated_or_kept(self.kept, given, lambda: self._generate(net, given))
        observe_weights(net, symmetric=True)
        observe_activations(net, GeneratedImages(net, given, images), RunningMinMax)
        return net.switch(True)

    def notes(self) -> list[str]:
        """Say where fewer steps or images were used than in the paper."""
        paper = type(self)()
        reduced = (self.batch, self.rounds, self.steps) != (paper.batch, paper.rounds, paper.steps)
        return [f"reduced: {self.batch} images, {self.rounds} x {self.steps} steps"] if reduced else []

    def _generate(self, net: PreparedModel, given: DataFree) -> list[Tensor]:
        entropy = Entropy(self.kde_points, self.budget_mib)
        recipe = Recipe(self.batch, self.rounds, self.steps, self.rate, self.one_hot, self.variation, entropy)
        return [generate(net, given, recipe, torch.Generator().manual_seed(given.seed))]
