"""I&S-ViT: shift-uniform-log2 quantizer and three-stage smooth optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, Method
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.quantizers.log import Log2
from vitptq.methods.core.quantizers.shift_uniform_log2 import ETAS, Form, shift_uniform_log2
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.percentile_error import least_error_affine
from vitptq.methods.core.reconstruct import Settings
from vitptq.methods.core.reconstruct.base import reduced
from vitptq.methods.core.reconstruct.settings import Autocast
from vitptq.methods.core.reconstruct.smooth_optimisation import ACTIVATION_PERCENTILES, AfterSoftmax, Smooth

ITERATIONS, ITERATIONS_FROM_6_BITS = 1000, 200

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
class ISViT(Method):
    """Attention probabilities on a shifted logarithmic grid; weights are trained before and after they are quantised.

    1. Shift-uniform-log2 after softmax: log2(x + eta) on a uniform grid, decoded to powers of two less eta.
    2. With activations quantised, per channel behind LayerNorm, and weights in float, each block's weights are trained.
    3. The per-channel grids are folded into the LayerNorm and the next layer, as in RepQ-ViT.
    4. Weights are quantised, and each block is trained again, straight through the rounding.
    """

    name = "is-vit"
    title = "I&S-ViT"
    fidelity = "paper"
    inferred = (
        "the shifted logarithmic grid is the paper's: 2^b codes and an integer zero point (the released code has "
        '2^b + 1 codes and chooses eta by another grid\'s error; sulq="code" gives that form)',
        "the shifts that are tried are the released code's eleven",
        "the mean zero point is rounded (the released code does not, and then emits 2^b + 1 values; "
        "round_zero_point=False gives that form)",
        *SHARED_INFERRED,
        "detectors and segmenters are trained with the same settings as classifiers (in the paper batches of 1)",
        "not compared with the official code yet",
    )
    paper = "Zhong et al., I&S-ViT, TPAMI 2025, arXiv 2311.10126"
    trial: ClassVar = {"iterations": 5}

    iterations: int | None = None
    """Steps per unit and stage; none: 1,000, or 200 where weights and activations have 6 bits or more."""
    batch: int = 64
    rate: float = 4e-5
    """Learning rate of weights and biases, falling to 0 along a cosine."""
    softmax: Literal["sulq", "log2", "uniform"] = "sulq"
    """Grid of the attention probabilities; the other two are the paper's ablation (table 4)."""
    sulq: Form = "paper"
    etas: tuple[float, ...] = ETAS
    round_zero_point: bool = True
    range_images: int = 64
    reductions: bool = False
    """Fold the LayerNorm in Swin's patch merging, too."""
    autocast: Autocast = "off"
    memory_mb: int = 4096

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        return self.stages(bits).quantize(model, calibration, bits)

    def stages(self, bits: BitSpec) -> Smooth:
        """Return the three stages with this method's parts."""
        return Smooth(
            name=self.title, after_softmax=self._after_softmax(), centre=self._centre,
            settings=settings(steps(self.iterations, bits), self.batch, self.rate, self.autocast, self.memory_mb),
            range_images=self.range_images, reductions=self.reductions,
        )  # fmt: skip

    def _after_softmax(self) -> AfterSoftmax:
        if self.softmax == "sulq":
            return partial(shift_uniform_log2, etas=self.etas, form=self.sulq)
        return log2 if self.softmax == "log2" else uniform

    def _centre(self, scale: Tensor, zero: Tensor) -> tuple[Tensor, Tensor]:
        mean = zero.mean()
        return scale.mean(), mean.round() if self.round_zero_point else mean

    def notes(self) -> list[str]:
        """Say so where the steps are fewer than usual."""
        return [] if self.iterations is None else reduced(self.iterations, ITERATIONS)


def steps(iterations: int | None, bits: BitSpec) -> int:
    """Return the steps per unit and stage: the paper's, where none are given."""
    if iterations is not None:
        return iterations
    return ITERATIONS_FROM_6_BITS if min(bits.weights, bits.activations) >= 6 else ITERATIONS


def settings(iterations: int, batch: int, rate: float, autocast: Autocast, memory_mb: int) -> Settings:
    """Return how both stages train: weights and biases with Adam, no dropping, everything else frozen."""
    return Settings(
        iterations=iterations, batch=batch, weights="ste", weight_rate=rate, weight_schedule="cosine", biases=True,
        scales=False, keep=1.0, autocast=autocast, memory=memory_mb * 2**20, seed=torch.initial_seed(),
    )  # fmt: skip


def log2(x: Tensor, bits: int) -> Quantizer:
    """Return powers of two from 1 downwards."""
    return Log2(bits, torch.ones((), device=x.device))


def uniform(x: Tensor, bits: int) -> Quantizer:
    """Return the uniform grid over the percentile range with the least squared error."""
    return Uniform(bits, *least_error_affine(x.reshape(1, -1), bits, ACTIVATION_PERCENTILES))
