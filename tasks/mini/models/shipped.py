"""A shipped model: its weights beside what their training wrote about them, and the check that both belong together."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from vitptq.tasks.foreign_files import disguise

WEIGHTS = Path(__file__).parents[1] / "weights"
AGAIN = "restore it from the repository, or train the model again as tasks/mini/README.md says"


class WeightsError(RuntimeError):
    """Weights that are missing or are not the published ones."""


class PackageMissing(WeightsError):
    """A package that holds a part of the weights is not installed."""


@dataclass(frozen=True, slots=True)
class ShippedModel(ABC):
    """One model: its family, its weights, and the float scores that belong to them."""

    name: str
    family: str

    @property
    def trained_as(self) -> str:
        """Return the name of the weights: variants of a model share them."""
        return self.name

    @property
    def weights(self) -> Path:
        """Return the file with the trained weights."""
        return WEIGHTS / f"{self.trained_as}.safetensors"

    @property
    def sha256(self) -> str:
        """Return the hash that the weights file must have."""
        return str(facts(self.trained_as)["sha256"])

    @property
    def checkpoint(self) -> str:
        """Return what pins the weights of this model."""
        return self.sha256

    @property
    def note(self) -> str:
        """Return what a reader of the model's card must know."""
        return ""

    @property
    def optional(self) -> bool:
        """Tell whether the model needs more than the set-up and the repository hold."""
        return False

    def problems(self) -> list[str]:
        """Say what is missing or wrong beside the shipped weights: one sentence each, with the next step."""
        return []

    @property
    @abstractmethod
    def scores(self) -> Mapping[str, float]:
        """Return the float scores in percent on the standard evaluation images."""

    @abstractmethod
    def load(self) -> nn.Module:
        """Return the model with its weights, in eval mode; WeightsError where these are not the published ones."""

    def state(self) -> dict[str, Tensor]:
        """Return the stored tensors; WeightsError where the file is missing or has another hash."""
        if not self.weights.exists():
            raise WeightsError(f"{self.weights} is missing: {AGAIN}")
        if (instead := disguise(self.weights)) is not None:
            raise WeightsError(f"{self.weights} is {instead}: {AGAIN}")
        found = hashlib.sha256(self.weights.read_bytes()).hexdigest()
        if found != self.sha256:
            raise WeightsError(f"{self.weights} has sha256 {found}, expected {self.sha256}: {AGAIN}")
        return load_file(self.weights)


def facts(name: str) -> dict[str, Any]:
    """Return what training wrote about the weights: hash, scores, recipe, widened channels."""
    path = WEIGHTS / f"{name}.json"
    if not path.exists():
        raise WeightsError(f"{path} is missing: {AGAIN}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
