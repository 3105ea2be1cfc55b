"""Min-max calibrated with made images: the reference rows that data-free methods are measured against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

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
)
from vitptq.methods.core.datafree.adversarial import AdversarialSettings, train_adversarially
from vitptq.methods.core.datafree.generate import GeneratedImages, Recipe, generate, noise
from vitptq.methods.core.datafree.kept_images import generated_or_kept
from vitptq.methods.core.datafree.similarity import Entropy


@dataclass(frozen=True)
class DataFreeMinMax(Method):
    """The quantizer of PSAQ-ViT on images of a chosen origin; what is compared is the images alone.

    `images`: "gaussian" is N(0, 1) after normalisation; "uniform" is uniform from black to white; "psaq-v1" is what
    PSAQ-ViT generates (with `one_hot` 0: without its class term); "psaq-v2" is every batch of PSAQ-ViT V2,
    whose trained student is thrown away. Steps and cycles default to those of the two methods. The same quantizer on
    real images is the method minmax with `w_symmetric`.
    """

    name = "data-free-minmax"
    title = "Data-free MinMax"
    fidelity = "reference"
    category = "data-free"
    paper = "The noise baseline in PSAQ-ViT, Li et al., ECCV 2022, arXiv 2203.02250"
    trial: ClassVar = {"batch": 4, "first_steps": 4, "later_steps": 2, "cycles": 2, "learn_steps": 2}

    images: Literal["gaussian", "uniform", "psaq-v1", "psaq-v2"] = "gaussian"
    batch: int = 32
    one_hot: float = 1.0
    """Weight of the class term in "psaq-v1"."""
    kde_points: int = 10
    """Points of the density's grid, as in PSAQ-ViT."""
    first_steps: int = 500
    """Steps per round, of two rounds, of "psaq-v1" and of the first cycle of "psaq-v2"."""
    later_steps: int = 100
    cycles: int = 10
    learn_steps: int = 100

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with min-max ranges from the images."""
        given = DataFree(calibration.input, calibration.device, calibration.seed)
        net = prepare(model, bits)
        batches = self._batches(net, given, model, bits)
        observe_weights(net, symmetric=True)
        observe_activations(net, GeneratedImages(net, given, batches), RunningMinMax)
        return net.switch(True)

    def notes(self) -> list[str]:
        """Say where generation was shorter than in the two methods."""
        default = type(self)()
        used = {"psaq-v1": ("batch", "first_steps")}.get(
            self.images, ("batch", "first_steps", "later_steps", "cycles", "learn_steps")
        )
        reduced = self.images.startswith("psaq") and any(getattr(self, n) < getattr(default, n) for n in used)
        return ["reduced: " + ", ".join(f"{n} {getattr(self, n)}" for n in used)] if reduced else []

    def _batches(self, net: PreparedModel, given: DataFree, model: nn.Module, bits: BitSpec) -> list[Tensor]:
        generator = torch.Generator().manual_seed(given.seed)
        if self.images in ("gaussian", "uniform"):
            return [noise(self.images, self.batch, given.input, given.device, generator)]
        entropy = Entropy(self.kde_points)
        first = Recipe(batch=self.batch, steps=self.first_steps, one_hot=self.one_hot, entropy=entropy)
        if self.images == "psaq-v1":
            return generated_or_kept("", given, lambda: [generate(net, given, first, generator)])
        first = replace(first, one_hot=0.0)
        later = replace(first, steps=self.later_steps)
        settings = AdversarialSettings(first, later, self.cycles, self.learn_steps)
        student = prepare(model, bits)
        return generated_or_kept("", given, lambda: train_adversarially(net, student, given, settings, generator).pool)
