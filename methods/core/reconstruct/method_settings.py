"""The settings that methods with a reconstruction share: an adapter adds what is its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, Method, run_time
from vitptq.methods.core.reconstruct.settings import Autocast, Settings

ITERATIONS = 20_000
"""Steps per unit in BRECQ, QDrop, AdaLog and APHQ-ViT."""
SHORT_ITERATIONS, SHORT_ITERATIONS_FROM_6_BITS = 1000, 200
"""Steps per unit and stage in I&S-ViT."""


@dataclass(frozen=True)
class ReconstructionMethod(Method):
    """A method that trains units; `reconstruction` turns its parameters into the engine's settings."""

    batch: int = 32
    """Images of a step."""
    autocast: Autocast = run_time("off", neutral="off")
    memory_mb: int = run_time(4096)
    """Host memory for cached inputs and targets; what is beyond goes to files."""

    def reconstruction(self, calibration: Calibration) -> Settings:
        """Return the settings that follow from the parameters, all others as in QDrop; `replace` sets what differs."""
        return Settings(
            batch=self.batch, autocast=self.autocast, memory=self.memory_mb * 2**20, seed=calibration.seed
        )  # fmt: skip


@dataclass(frozen=True)
class RoundingMethod(ReconstructionMethod):
    """A method whose weights learn which way to round, as in AdaRound (arXiv 2004.10568)."""

    paper_iterations: ClassVar[int] = ITERATIONS

    iterations: int = ITERATIONS
    """Steps per unit; small models need far fewer, but rounding must have settled: see docs/reconstruct.md."""
    weight_rate: float = 1e-3
    """Learning rate of AdaRound's alpha."""
    rounding_weight: float = 0.01
    """Weight of AdaRound's regulariser, which makes every weight choose."""
    warm_up: float = 0.2
    """Fraction of the steps before the regulariser sets in."""

    def reconstruction(self, calibration: Calibration) -> Settings:
        """Return the settings that follow from the parameters."""
        return replace(
            super().reconstruction(calibration), iterations=self.iterations, weight_rate=self.weight_rate,
            rounding_weight=self.rounding_weight, warm_up=self.warm_up,
        )  # fmt: skip

    def notes(self) -> list[str]:
        """Say so where the steps are fewer than the paper's."""
        return reduced(self.iterations, self.paper_iterations)


@dataclass(frozen=True)
class WeightTrainingMethod(ReconstructionMethod):
    """A method that trains weights and biases straight through the rounding, as I&S-ViT does (arXiv 2311.10126)."""

    iterations: int | None = None
    """Steps per unit and stage; none: 1,000, or 200 where weights and activations have 6 bits or more."""
    batch: int = 64
    rate: float = 4e-5
    """Learning rate of weights and biases, falling to 0 along a cosine."""

    def steps(self, bits: BitSpec) -> int:
        """Return the steps per unit and stage: the paper's, where none are given."""
        if self.iterations is not None:
            return self.iterations
        return SHORT_ITERATIONS_FROM_6_BITS if min(bits.weights, bits.activations) >= 6 else SHORT_ITERATIONS

    def weight_training(self, calibration: Calibration, bits: BitSpec) -> Settings:
        """Return how weights and biases are trained: no dropping, everything else frozen."""
        return replace(
            self.reconstruction(calibration), iterations=self.steps(bits), weights="ste", weight_rate=self.rate,
            weight_schedule="cosine", biases=True, scales=False, quantised_probability=1.0,
        )  # fmt: skip

    def notes(self) -> list[str]:
        """Say so where the steps are fewer than usual."""
        return [] if self.iterations is None else reduced(self.iterations, SHORT_ITERATIONS)


def reduced(iterations: int, paper: int, unit: str = "unit") -> list[str]:
    """Return the note that a record needs where a reconstruction takes fewer steps than its paper's."""
    return [f"reduced: {iterations} steps per {unit}, the paper takes {paper}"] if iterations < paper else []
