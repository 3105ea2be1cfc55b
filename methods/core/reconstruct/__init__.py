"""Block-wise reconstruction (docs/reconstruct.md): units of a quantised model are trained, one after the other, to put
out what they put out in float.

The engine serves AdaRound (arXiv 2004.10568), BRECQ (arXiv 2102.05426), QDrop (arXiv 2203.05740) and what builds on
them. Where the grids come from that it starts with is in `ranges/` and `search/`.
"""

from vitptq.methods.core.reconstruct.engine import Result, reconstruct
from vitptq.methods.core.reconstruct.float_tail import FloatTail
from vitptq.methods.core.reconstruct.losses import (
    Loss,
    LossFor,
    PerSample,
    RenewedLoss,
    StepTensors,
    divergence,
    power_error,
    squared_error,
    weighted_error,
)
from vitptq.methods.core.reconstruct.method_settings import RoundingMethod, WeightTrainingMethod
from vitptq.methods.core.reconstruct.plan import all_units, block_units, layer_units
from vitptq.methods.core.reconstruct.settings import Settings
from vitptq.methods.core.reconstruct.unit import Unit

__all__ = [
    "FloatTail",
    "Loss",
    "LossFor",
    "PerSample",
    "RenewedLoss",
    "Result",
    "RoundingMethod",
    "Settings",
    "StepTensors",
    "Unit",
    "WeightTrainingMethod",
    "all_units",
    "block_units",
    "divergence",
    "layer_units",
    "power_error",
    "reconstruct",
    "squared_error",
    "weighted_error",
]
