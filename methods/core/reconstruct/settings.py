"""Settings of a reconstruction: what is trained, on what, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vitptq.bench.errors import BadInput

Rounding = Literal["adaround", "ste", "fixed"]
Inputs = Literal["float", "quantised", "mixed"]
Schedule = Literal["constant", "cosine"]
Autocast = Literal["off", "bf16", "fp16"]

GIBIBYTE = 2**30


@dataclass(frozen=True)
class Settings:
    """How each unit is trained; the defaults are QDrop's (arXiv 2203.05740, 20,000 steps of 32 images).

    One optimiser, Adam, without weight decay.
    """

    iterations: int = 20_000
    batch: int = 32
    """Images of a step, drawn without replacement from one group of equal shapes."""
    weights: Rounding = "adaround"
    """"adaround" learns which way to round; "ste" trains the weights themselves, straight through their quantizers
    where those are on; "fixed" leaves them."""
    weight_rate: float = 1e-3
    """Learning rate of alpha, or of the weights, biases and norms (4e-5 is usual for those)."""
    weight_schedule: Schedule = "constant"
    biases: bool = False
    norms: bool = False
    """Train scale and shift of the unit's LayerNorms."""
    scales: bool = True
    """Train the scales of the unit's activation quantizers that are on (LSQ)."""
    scale_rate: float = 4e-5
    scale_schedule: Schedule = "cosine"
    input: Inputs = "mixed"
    """What a unit reads while it is trained: what the float model gives it, what the quantised one does, or each value
    from the latter with probability
    `quantised_input_probability`."""
    quantised_input_probability: float = 0.5
    quantised_probability: float = 0.5
    """Probability with which an activation quantizer quantises a value while its unit is trained; 1 turns dropping
    off. (In the published code this number is called drop_prob.)"""
    rounding_weight: float = 0.01
    """Lambda of AdaRound's regulariser, a sum over the unit's weights."""
    beta: tuple[float, float] = (20.0, 2.0)
    warm_up: float = 0.2
    """Fraction of the steps before the regulariser sets in."""
    hard: bool = True
    """Write AdaRound's weights where they are rounded to. Without, they keep what was learned between two grid points,
    so that a later reconstruction goes on from there; in their slots they are rounded to the same points."""
    normalise: float | None = None
    """Divide each term of the loss by its value at the first step and multiply it by this (APHQ-ViT: 2)."""
    term_weights: dict[str, float] = field(default_factory=dict)
    """Factors of named terms, applied after `normalise`; 1 where a term is not named."""
    keep_better: bool = True
    """Go back to a unit's state before training where training made its error on the calibration set larger."""
    autocast: Autocast = "off"
    memory: int = 4 * GIBIBYTE
    """Bytes of host memory for cached inputs and targets; what is beyond goes to files."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, ok, allowed in (
            ("iterations", self.iterations >= 0, "0 or more"),
            ("batch", self.batch >= 1, "1 or more"),
            ("quantised_input_probability", 0 <= self.quantised_input_probability <= 1, "0 to 1"),
            ("quantised_probability", 0 <= self.quantised_probability <= 1, "0 to 1"),
            ("warm_up", 0 <= self.warm_up <= 1, "0 to 1"),
        ):
            if not ok:
                raise BadInput(
                    f"{name}={getattr(self, name)} in the settings of a reconstruction: allowed is {allowed}"
                )
