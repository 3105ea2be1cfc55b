"""PSAQ-ViT V2: generated images and the quantised model, in turn, under the float model as teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from vitptq import BitSpec, Calibration, DataFree, Method, PreparedModel, note_details, prepare, run_time
from vitptq.methods.core.datafree.adversarial import AdversarialSettings, set_ranges, train_adversarially
from vitptq.methods.core.datafree.generate import Recipe
from vitptq.methods.core.datafree.kept_images import generated_or_kept
from vitptq.methods.core.datafree.similarity import Entropy

SETTINGS = ("batch", "cycles", "first_steps", "later_steps", "learn_steps")


@dataclass(frozen=True)
class PsaqVitV2(Method):
    """Generate images without classes, then train images and quantised student against each other in cycles.

    The first images come as in PSAQ-ViT, without its class term. From then on, each cycle generates one more batch that
    also widens the gap between the float teacher and the quantised student, sets the student's ranges on all batches,
    and trains its weights through straight-through rounding to close the gap. Works on classifiers, detectors and
    segmenters: the gap is that of the logits, or of the feature and prediction maps, each in units of its deviation.
    Quantizers and operand map are those of PSAQ-ViT here.
    """

    name = "psaq-vit-v2"
    title = "PSAQ-ViT V2"
    fidelity = "inferred"
    category = "data-free"
    paper = "Li et al., PSAQ-ViT V2, IEEE TNNLS 2023, arXiv 2209.05687"
    inferred = (
        "the discrepancy: mean absolute difference, in units of the teacher's deviation, at most 1 for the images",
        "its weight in generation: 0 in the first cycle, then 1; total variation as in PSAQ-ViT, no other prior",
        "10 cycles of 32 images; 2 x 500 steps for the first images, 2 x 100 for later ones",
        "the student: Adam, step size 1e-5, cosine without warm-up, 100 steps in every cycle on random batches",
        "what is trained: weights and biases of quantised layers; normalisations and embeddings stay",
        "activation ranges: minimum and maximum in float over all batches, anew in every cycle and at the end",
        "outputs matched in detectors and segmenters: the feature or prediction maps of the model's family",
        "image size in detection and segmentation: the model's input or `side`; padded window positions take part",
        "the softmax output is quantised, as the standard track has it",
    )
    trial: ClassVar = {"batch": 4, "cycles": 2, "first_steps": 4, "later_steps": 2, "learn_steps": 3}

    batch: int = 32
    """Images per cycle."""
    side: int = 0
    """Height and width of the images; 0: the model's input. Multiples of 224 need no padding in a detector's Swin."""
    cycles: int = 10
    first_steps: int = 500
    """Steps of image generation per round, of two rounds, in the first cycle."""
    later_steps: int = 100
    """The same in every later cycle."""
    learn_steps: int = 100
    """Steps of the student per cycle; 0 does not train it."""
    learn_rate: float = 1e-5
    gap_weight: float = 1.0
    """Weight of the gap in generation; 0 makes images that know no student."""
    rate: float | None = None
    """Step size of the images; null: 0.20, or 0.25 where attention works in windows."""
    variation: float = 0.05
    kde_points: int = 10
    budget_mib: float = run_time(256.0)
    """Memory for patch similarities at any time."""
    kept: str = ""
    """An .npz of earlier generated images: ranges are set with them, nothing is generated and nothing is trained."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the trained student."""
        shape = (calibration.input.shape[0], self.side, self.side) if self.side else calibration.input.shape
        given = DataFree(replace(calibration.input, shape=shape), calibration.device, calibration.seed)
        student = prepare(model, bits)
        pool = generated_or_kept(self.kept, given, lambda: self._generate(prepare(model, bits), student, given))
        set_ranges(student, given, pool)
        return student.switch(True)

    def notes(self) -> list[str]:
        """Say where images or training were fewer than by default."""
        default = type(self)()
        reduced = any(getattr(self, name) < getattr(default, name) for name in SETTINGS)
        return ["reduced: " + ", ".join(f"{name} {getattr(self, name)}" for name in SETTINGS)] if reduced else []

    def _generate(self, teacher: PreparedModel, student: PreparedModel, given: DataFree) -> list[Tensor]:
        entropy = Entropy(self.kde_points, self.budget_mib)
        first, later = (
            Recipe(self.batch, 2, steps, self.rate, 0.0, self.variation, entropy)
            for steps in (self.first_steps, self.later_steps)
        )
        settings = AdversarialSettings(first, later, self.cycles, self.learn_steps, self.learn_rate, self.gap_weight)
        generator = torch.Generator().manual_seed(given.seed)
        result = train_adversarially(teacher, student, given, settings, generator)
        history: list[JsonValue] = [[round(before, 6), round(after, 6)] for before, after in result.history]
        note_details("discrepancy_before_and_after_learning_by_cycle", history)
        return result.pool
