"""Low-rank methods that learn a residual of each layer, on what the compressed layers before it give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import BadInput
from vitptq.methods.core.lowrank.block_residual import with_block_residuals
from vitptq.methods.core.lowrank.components import Components
from vitptq.methods.core.lowrank.error_moments import LayerStep, error_moments
from vitptq.methods.core.lowrank.low_rank_method import LowRankMethod
from vitptq.methods.core.lowrank.residual import Factors, exact_residual, trained_residual
from vitptq.methods.core.model.prepare import PreparedModel


@dataclass(frozen=True)
class CompensatedMethod(LowRankMethod):
    """Adds to each layer's factors a residual for their error and for that of the layers before."""

    trial: ClassVar[Mapping[str, Any]] = {"steps": 20}

    compensation: Literal["layer", "block", "none"] = "layer"
    """For each layer's output, or for a block's output all residuals of its layers together."""
    rank: int = 8
    """Of the residual; it counts in the budget."""
    residual: Literal["trained", "exact"] = "trained"
    """Learned with Adam, or the closed form of least error, which a layer alone has."""
    steps: int = 500
    rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.compensation == "block" and self.residual == "exact":
            raise BadInput('residual="exact" is the closed form of a layer: a block\'s residuals are "trained"')

    @property
    def residual_rank(self) -> int:
        """Return how many ranks of each layer are the residual's."""
        return 0 if self.compensation == "none" else self.rank

    def factors(self, found: Components, rank: int, step: LayerStep) -> Factors:
        """Return [L P] and [R; Q]: the principal factors and, layer by layer, the residual's, merged."""
        left, right = found.factors(rank)
        if self.compensation != "layer" or not self.rank:
            return left, right
        moments = error_moments(step, (left, right))
        if self.residual == "exact":
            more = exact_residual(moments, self.rank)
        else:
            seed = step.calibration.seed
            more = trained_residual(moments, self.rank, steps=self.steps, rate=self.rate, seed=seed)
        step.told["error without residual"] = round(float(moments.constant), 6)
        step.told["error with residual"] = round(float(moments.loss(*more)), 6)
        return torch.cat([left, more[0]], dim=1), torch.cat([right, more[1]])

    def compensated(self, net: PreparedModel, twin: PreparedModel, calibration: Calibration) -> PreparedModel:
        """Return the model with the residuals of whole blocks, where those are asked for."""
        if self.compensation != "block" or not self.rank:
            return net
        return with_block_residuals(net, twin, calibration, rank=self.rank, steps=self.steps, rate=self.rate)
