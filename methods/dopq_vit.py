"""DopQ-ViT in our reading: a tangent grid behind softmax, and the median scale behind LayerNorm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import BitSpec, Calibration, WeightTrainingMethod
from vitptq.methods.core.ranges.attention_grids import least_error_sulq, least_error_tanq
from vitptq.methods.core.reconstruct.smooth_optimisation import AfterSoftmax, SmoothOptimisation
from vitptq.methods.is_vit import SHARED_INFERRED

Rule = Literal["median", "mean"]


@dataclass(frozen=True)
class DopQViT(WeightTrainingMethod):
    """Attention probabilities on a tangent grid, and a scale behind LayerNorm that outlier channels do not pull.

    1. TanQ quantizer (TanQ) after softmax; reading A is fine near 0 and near 1, reading C near 0 alone.
    2. With activations quantised, per channel behind LayerNorm, and weights in float, each block's weights are trained.
    3. The per-channel grids are folded into the LayerNorm and the next layer with the median scale (MOSF), which has
       the least mean absolute deviation.
    4. Weights are quantised, and each block is trained again, straight through the rounding.
    """

    name = "dopq-vit"
    title = "DopQ-ViT (our reading)"
    fidelity = "inferred"
    inferred = (
        "everything but the two ideas: there is no code, and no equation of the paper is known to us",
        "the tangent grid's formula; its angle and ceiling are those of least squared error on the calibration set",
        "the one scale is the median (second version of the abstract); the last version may reject outliers instead",
        "the one zero point is the rounded mean, as in RepQ-ViT",
        "stages, ranges, optimiser and schedule are those of I&S-ViT",
        *SHARED_INFERRED,
    )
    paper = "Yang et al., DopQ-ViT, arXiv 2408.03291"
    trial: ClassVar = {"iterations": 5}

    softmax: Literal["tanq-a", "tanq-c", "sulq"] = "tanq-c"
    """Grid of the attention probabilities, see docs/methods/dopq-vit.md; "sulq" is I&S-ViT's."""
    scale_rule: Rule = "median"
    zero_rule: Rule = "mean"
    range_images: int = 64
    reductions: bool = False
    """Fold the LayerNorm in Swin's patch merging, too."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        return self.stages(calibration, bits).quantize(model, calibration, bits)

    def stages(self, calibration: Calibration, bits: BitSpec) -> SmoothOptimisation:
        """Return the three stages with this method's parts."""
        return SmoothOptimisation(
            name=self.title, after_softmax=self._after_softmax(), centre=self._centre,
            settings=self.weight_training(calibration, bits),
            range_images=self.range_images, reductions=self.reductions,
        )  # fmt: skip

    def _after_softmax(self) -> AfterSoftmax:
        if self.softmax == "sulq":
            return least_error_sulq
        return partial(least_error_tanq, reading="A" if self.softmax == "tanq-a" else "C")

    def _centre(self, scale: Tensor, zero: Tensor) -> tuple[Tensor, Tensor]:
        return centre(scale, self.scale_rule), centre(zero, self.zero_rule).round()

    def notes(self) -> list[str]:
        """Say whose reading this is and which, and where the steps are fewer than usual."""
        which = f"{self.softmax}, scale: {self.scale_rule}, zero point: {self.zero_rule}, rounded"
        return [*super().notes(), f"our reading ({which}): there is no official code and no known formula"]


def centre(values: Tensor, rule: Rule) -> Tensor:
    """Return the mean or the median; of an even number, the middle between the two in the middle."""
    # torch.median would return the lower of the two
    return values.mean() if rule == "mean" else torch.quantile(values, 0.5)
