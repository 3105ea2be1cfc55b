"""A task small enough for tests: two-block models, random weights and images, no file. Loaded with --adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration, InputSpec
from vitptq.bench.contracts.task import Evidence, Metric, ModelCard, Progress, Task
from vitptq.bench.run.adapter_check import two_block_models

IMAGES = 64
SPEC = InputSpec((3, 32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def images(seed: int, count: int) -> Tensor:
    """Return random images."""
    return torch.randn(count, *SPEC.shape, generator=torch.Generator().manual_seed(seed))


class TinyCalibration(Calibration):
    """Random images by seed."""

    def __init__(self, size: int, seed: int, device: torch.device) -> None:
        self.input, self.device, self.size, self.seed = SPEC, device, size, seed

    def batches(self) -> Iterator[Tensor]:
        """Yield one batch."""
        yield images(100 + self.seed, self.size).to(self.device)

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the logits."""
        return model(batch)


class TinyTask(Task):
    """The labels are what the float model predicts, so the float score is 100."""

    name, edition, title = "tiny", "test", "Tiny"
    metrics = (Metric("top1", "Top-1 accuracy", proportion=True, ranks=True),)
    data_version = "tiny-1"

    def models(self) -> Mapping[str, ModelCard]:
        """Return the two-block models, and one whose reference is wrong."""
        return {
            "vit": ModelCard("vit", "vit", "seed-3", {"top1": 100.0}, 0.5),
            "swin": ModelCard("swin", "swin", "seed-3", {"top1": 100.0}, 0.5, groups=("windowed",)),
            "wrong_reference": ModelCard("wrong_reference", "vit", "seed-3", {"top1": 50.0}, 0.5),
        }

    def problems(self, model: str) -> list[str]:
        """Nothing is ever missing."""
        return []

    def prepare(self, progress: Progress | None = None) -> None:
        """Do nothing."""

    def load(self, model: str, device: torch.device) -> nn.Module:
        """Return the model."""
        return two_block_models()["Swin" if model == "swin" else "ViT"].to(device)

    def calibration_names(self, size: int, seed: int) -> Sequence[str]:
        """Return made-up names."""
        return [f"{seed}/{i}" for i in range(size)]

    def calibration(self, model: str, size: int, seed: int, device: torch.device) -> Calibration:
        """Return random images."""
        return TinyCalibration(size, seed, device)

    def input(self, model: str) -> InputSpec:
        """Describe the input."""
        return SPEC

    def example(self, model: str, device: torch.device) -> Tensor:
        """Return one random image."""
        return images(5, 1).to(device)

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the logits."""
        return model(batch)

    def details(self, model: str) -> dict[str, Any]:
        """Return nothing of interest."""
        return {"transform": "none"}

    def evaluate(self, model: nn.Module, name: str, device: torch.device, progress: Progress) -> dict[str, np.ndarray]:
        """Return predictions and labels."""
        x = images(1, IMAGES).to(device)
        with torch.no_grad():
            predicted, labels = model(x).argmax(1), self.load(name, device)(x).argmax(1)
        progress(IMAGES, IMAGES)
        return {"predictions": predicted.short().cpu().numpy(), "labels": labels.short().cpu().numpy()}

    def score(self, evidence: Evidence) -> dict[str, float]:
        """Return top-1."""
        return {"top1": 100.0 * float(self.correct(evidence).mean())}

    def correct(self, evidence: Evidence) -> np.ndarray:
        """Return per image whether the class is right."""
        return np.equal(evidence["predictions"], evidence["labels"])

    def truth(self, evidence: Evidence) -> str:
        """Return the labels as text."""
        return evidence["labels"].tobytes().hex()

    def count(self, evidence: Evidence) -> int:
        """Return the number of images."""
        return len(evidence["labels"])
