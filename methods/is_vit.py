"""I&S-ViT: shift-uniform-log2 quantizer and three-stage smooth optimisation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import BitSpec, Calibration, Log2, Quantizer, Uniform, WeightTrainingMethod, least_error_affine
from vitptq.methods.core.quantizers.shift_uniform_log2 import Form
from vitptq.methods.core.ranges.attention_grids import ETAS, least_error_sulq
from vitptq.methods.core.reconstruct.smooth_optimisation import ACTIVATION_PERCENTILES, AfterSoftmax, SmoothOptimisation

SHARED_INFERRED = (
    "the image enters the patch embedding at 8 bits, not in float",
    "loss: squared error over the channels, mean over images and positions (the released code sums over the second "
    "axis; Adam does not see the factor)",
    "a unit whose error on the calibration set grew keeps its state before training",
    "stochastic depth stays off while a Swin is trained (the released code has it on)",
    "ranges are set on the first 64 images; of a detector or segmenter on as many as 64 images of 224 pixels make up",
)
"""What both methods on these stages share."""


@dataclass(frozen=True)
class ISViT(WeightTrainingMethod):
    """Attention probabilities on a shifted logarithmic grid; weights are trained before and after they are quantised.

    1. Shift-uniform-log2 after softmax: log2(x + eta) on a uniform grid, decoded to powers of two less eta.
    2. With activations quantised, per channel behind LayerNorm, and weights in float, each block's weights are trained.
    3. The per-channel grids are folded into the LayerNorm and the next layer, as in RepQ-ViT.
    4. Weights are quantised, and each block is trained again, straight through the rounding.
    """

    name = "is-vit"
    title = "I&S-ViT"
    fidelity = "paper"
    parity_test = "tests/parity/test_is_vit.py"
    inferred = (
        "the shifted logarithmic grid is the paper's: 2^b codes and an integer zero point (the released code has "
        '2^b + 1 codes and chooses eta by another grid\'s error; sulq="code" gives that form)',
        "the shifts that are tried are the released code's eleven",
        "the mean zero point is rounded (the released code does not, and then emits 2^b + 1 values; "
        "round_zero_point=False gives that form)",
        *SHARED_INFERRED,
        "detectors and segmenters are trained with the same settings as classifiers (in the paper batches of 1)",
        'form="released": the released grid and zero points, the image in float, and units keep what training made '
        "of them",
        "beside the official code, tests/parity/test_is_vit.py: ranges, shifts and what the grids put out agree to "
        "1e-5, schedules exactly, the loss and its gradient up to their constant factor; on mini_vit at W3A3 the "
        "ranges alone gave 88.07 in the released form, the official code 88.43; the trained model was not compared",
    )
    paper = "Zhong et al., I&S-ViT, TPAMI 2025, arXiv 2311.10126"
    trial: ClassVar = {"iterations": 5}

    form: Literal["paper", "released"] = "paper"
    """"released" is what the authors' code does: sulq="code", round_zero_point=False, a float image, and no way back
    for a unit that training made worse."""
    softmax: Literal["sulq", "log2", "uniform"] = "sulq"
    """Grid of the attention probabilities; the other two are the paper's ablation (table 4)."""
    sulq: Form = "paper"
    etas: tuple[float, ...] = ETAS
    round_zero_point: bool = True
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
            settings=replace(self.weight_training(calibration, bits), keep_better=not self._released),
            range_images=self.range_images, reductions=self.reductions, image=not self._released,
        )  # fmt: skip

    @property
    def _released(self) -> bool:
        return self.form == "released"

    def _after_softmax(self) -> AfterSoftmax:
        if self.softmax == "sulq":
            return partial(least_error_sulq, etas=self.etas, form="code" if self._released else self.sulq)
        return log2 if self.softmax == "log2" else uniform

    def _centre(self, scale: Tensor, zero: Tensor) -> tuple[Tensor, Tensor]:
        mean = zero.mean()
        return scale.mean(), mean.round() if self.round_zero_point and not self._released else mean


def log2(x: Tensor, bits: int) -> Quantizer:
    """Return powers of two from 1 downwards."""
    return Log2(bits, torch.ones((), device=x.device))


def uniform(x: Tensor, bits: int) -> Quantizer:
    """Return the uniform grid over the percentile range with the least squared error."""
    return Uniform(bits, *least_error_affine(x.reshape(1, -1), bits, ACTIVATION_PERCENTILES))
