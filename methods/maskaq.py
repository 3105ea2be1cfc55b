"""MaskAQ: images on which float and quantised model attend alike, and a student that is trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitptq import (
    BadInput,
    BitSpec,
    Calibration,
    DataFree,
    Method,
    PreparedModel,
    note_details,
    observe_activations,
    observe_weights,
    prepare,
)
from vitptq.bench.contracts.reporting import keep_images
from vitptq.methods.core.datafree.distil import Distillation, as_student
from vitptq.methods.core.datafree.for_two_models import MaskedRecipe, images_for_two
from vitptq.methods.core.datafree.generate import GeneratedImages, noise
from vitptq.methods.core.datafree.images import to_bytes
from vitptq.methods.core.reconstruct.least_error_start import LeastErrorOfSample

REDUCED = ("images", "steps", "epochs")
RANGES = 256
"""Images that the step sizes start from."""
SHOWN = 64
"""Images that are kept beside the evidence."""


@dataclass(frozen=True)
class MaskAQ(Method):
    """Images for teacher and student together, renewed while the student is trained on them. No data.

    1. Noise becomes images: heads attend alike (SSIM), patches differ (entropy, as if their similarities were normally
       distributed), a drawn class is recognised, and where the float model attends most, the quantised one attends as
       much.
    2. The student learns on random views of them: soft predictions, and attention outputs by their structural
       similarity, in which the tokens of largest output count twice. Weights and activations' step sizes are trained.
    3. After every 30 epochs the images are made anew for the student as it is then.
    """

    name = "maskaq"
    title = "MaskAQ"
    fidelity = "inferred"
    category = "data-free"
    paper = "Qian et al., Masked Attention Alignment, ICML 2026, arXiv 2606.04373"
    inferred = (
        "from facts of the released code hfutqian/MaskAQ at 3245400; no code was compared, the paper was not read",
        "the weight of the attention distance: 10, the default of the released program, whose command in the README "
        "passes one argument too few",
        "first ranges: least squared error, on noise for the first images and anew on these for the training "
        "(released: LSQ's rule, on noise)",
        "zero points stay where they are (released: learned and rounded); two epochs without steps are left out",
        "windows and models without a class token, on which the released code cannot run: attention to a key is a mean "
        "over queries, and each layer has its own mask",
        "grids of the project's other data-free methods: symmetric weights per output channel, the image at 8 bits "
        "(released: in float), and no gradient for a weight that is clipped",
        "classifiers alone; blur with probability 1/2; images rounded to 8 bits per channel",
    )
    trial: ClassVar = {"images": 8, "batch": 4, "steps": 3, "epochs": 2, "renew_every": 1}

    images: int = 10_000
    batch: int = 16
    """Of the images that are made together, and of the training."""
    steps: int = 2000
    """Of the making of each batch of images."""
    epochs: int = 100
    renew_every: int = 30
    rate: float = 1e-3
    """Of the student's weights and step sizes."""
    temperature: float = 5.0
    attention_weight: float = 10.0
    difference_weight: float = 0.1
    """Of the masked difference of attention, in the images; 0 makes images that know no student."""

    def __post_init__(self) -> None:
        if min(self.images, self.batch, self.renew_every) < 1 or min(self.steps, self.epochs) < 0:
            raise BadInput(f"{self}: images, batch and renew_every are 1 or more, steps and epochs 0 or more")

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the trained student."""
        given = DataFree(calibration.input, calibration.device, calibration.seed)
        generator = torch.Generator().manual_seed(given.seed)
        teacher, student = prepare(model, bits), prepare(model, bits)
        set_ranges(student, given, [noise("gaussian", self.batch, given.input, given.device, generator)])
        images = self._images(teacher, student, given, generator)
        set_ranges(student, given, [images[:RANGES]])
        settings = Distillation(self.batch, self.epochs, self.rate, temperature=self.temperature,
                                attention=self.attention_weight)  # fmt: skip
        losses = []
        with as_student(student, teacher, images[: self.batch], settings) as learner:
            for epoch in range(self.epochs):
                if epoch and epoch % self.renew_every == 0:
                    images = self._images(teacher, student, given, generator)
                losses.append(round(learner.epoch(images, given.input, generator), 6))
        note_details("loss_by_epoch", list(losses))
        keep_images("generated", to_bytes(images[None, :SHOWN], given.input).permute(0, 1, 3, 4, 2).cpu().numpy())
        return student.switch(True)

    def notes(self) -> list[str]:
        """Say where images or training were fewer than in the released code."""
        default = type(self)()
        reduced = any(getattr(self, name) < getattr(default, name) for name in REDUCED)
        return ["reduced: " + ", ".join(f"{name} {getattr(self, name)}" for name in REDUCED)] if reduced else []

    def _images(
        self, teacher: PreparedModel, student: PreparedModel, given: DataFree, generator: torch.Generator
    ) -> Tensor:
        recipe = MaskedRecipe(self.batch, self.steps, difference=self.difference_weight)
        count = -(-self.images // self.batch)
        made = [images_for_two(teacher, student, given, recipe, generator) for _ in range(count)]
        return torch.cat(made)[: self.images]


def set_ranges(student: PreparedModel, given: DataFree, batches: list[Tensor]) -> None:
    """Set every grid of a student from its weights and some images, and switch it on."""
    observe_weights(student, symmetric=True)
    observe_activations(student, GeneratedImages(student, given, batches), LeastErrorOfSample)
    student.switch(True)
