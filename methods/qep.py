"""QEP: correct the float weight for the error that arrives, then round it with any layer-wise method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vitptq.methods.comq import COMQ
from vitptq.methods.core.layerwise.columns import damped
from vitptq.methods.core.layerwise.layer_problem import LayerProblem
from vitptq.methods.core.layerwise.layerwise_method import LayerwiseMethod, Rounded
from vitptq.methods.core.layerwise.moments import ALL, Moments, Wanted
from vitptq.methods.gptq import GPTQ
from vitptq.methods.rtn import RoundToNearest

METHODS: dict[str, type[LayerwiseMethod]] = {"gptq": GPTQ, "rtn": RoundToNearest, "comq": COMQ}


@dataclass(frozen=True)
class QEP(LayerwiseMethod):
    """Each weight is first made to meet its float output on the inputs that the quantised layers before give.

    1. Y: the layer's inputs behind the quantised layers, X: in the float model, on the same images.
    2. W <- W + alpha W (X - Y) Y^T (Y Y^T + lambda I)^-1, lambda = damping times the mean diagonal of Y Y^T.
    3. Round W by the method of `rounding`.
    """

    name = "qep"
    title = "QEP"
    fidelity = "inferred"
    inferred = (
        "neither paper nor code has a vision transformer: tokens are columns, layers go in execution order",
        "the second layer of an MLP takes the place of down_proj, which gets no correction "
        "(correct_behind_gelu=true gives it one)",
        "the patch embedding and the head are corrected and rounded, too",
    )
    paper = "Arai and Ichikawa, QEP, NeurIPS 2025, arXiv 2504.09629"
    wanted: ClassVar[frozenset[Wanted]] = ALL

    alpha: float = 0.5
    """How much of the correction: 0 is none, 1 the ridge regression of W (X - Y) on Y."""
    damping: float = 1.0
    rounding: Literal["gptq", "rtn", "comq"] = "gptq"
    correct_behind_gelu: bool = False

    def rounded(self, layer: LayerProblem) -> Rounded:
        """Return the weight corrected, then rounded."""
        alpha = self.alpha if self.correct_behind_gelu or not layer.behind_gelu else 0.0
        moments = replace(layer.moments, float_gram=layer.moments.gram)  # the weight is for these inputs from here on
        weight = corrected_weight(layer.weight, moments, alpha, self.damping)
        method = METHODS[self.rounding](ranges=self.ranges)
        return method.rounded(replace(layer, weight=weight, moments=moments))


def corrected_weight(weight: Tensor, moments: Moments, alpha: float, damping: float) -> Tensor:
    """Return W + alpha W D (G + lambda I)^-1 with the drift D and the gram G, shapes (groups, outputs, inputs)."""
    if not alpha:
        return weight
    increment: Tensor = torch.linalg.solve(damped(moments.gram, damping), weight @ moments.drift, left=False)
    return weight + alpha * increment
