"""TSPTQ-ViT in our reading: two scales for softmax and GELU, and for the channels of what a LayerNorm reads."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import (
    BadInput,
    BitSpec,
    Calibration,
    Method,
    Operand,
    PreparedModel,
    RunningMinMax,
    Uniform,
    observe_activations,
    observe_weights,
    prepare,
)
from vitptq.methods.core.model.prepare import prepare_in_full
from vitptq.methods.core.ranges.channel_ranges import channel_ranges
from vitptq.methods.core.ranges.estimation import asymmetric_parameters
from vitptq.methods.core.search.two_scale_search import TwoScaleSearch, narrowing
from vitptq.methods.core.search.uniform_search import refuse_float_sides


@dataclass(frozen=True)
class TSPTQViT(Method):
    """Values behind softmax and GELU have two steps, the channels that a LayerNorm reads two scales.

    1. V-2SF: one bit of a code says whether it has the coarse step or the fine one, 2^-m of that; m is searched.
    2. O-2SF: of the residual stream, channels whose range is far above the median's have a second scale, a power of
       two times the first.
    3. All grids of an operator are narrowed by turns to the least squared error of its output.

    `scope`: "full" quantises what is stored between layers, too, as in the paper (ViT, DeiT and Swin of timm);
    "operands" is the operand map of the standard track, where no LayerNorm's input is quantised.
    """

    name = "tsptq-vit"
    title = "TSPTQ-ViT (our reading)"
    fidelity = "inferred"
    inferred = (
        "only the abstract is public; equations, thresholds, outlier detection and calibration are ours",
        "the fine range is as long as its codes allow (a shorter one would leave codes unused); m and the range by the "
        "squared error of the operator's output",
        "either step has its own zero point, so that GELU's negative values lie in the fine range",
        "outlier channels: a range above `outlier_ratio` times the median channel's",
        "weights symmetric per output channel, activations asymmetric per tensor; scores have 8 bits, LayerNorm and "
        "softmax compute in float on quantised values",
        "ranges start at the extreme values of all calibration images",
    )
    paper = "Tai et al., TSPTQ-ViT, ICASSP 2023, arXiv 2305.12901"
    trial: ClassVar = {"candidates": 5}

    scope: Literal["full", "operands"] = "full"
    two_scale_values: bool = True
    """V-2SF; without it softmax and GELU have one step."""
    two_scale_channels: bool = True
    """O-2SF; without it the residual stream has one scale."""
    outlier_ratio: float = 3.0
    shifts: int = 8
    narrowest: float = 0.2
    """Of a grid's range, among the candidates."""
    candidates: int = 40
    rounds: int = 2

    def __post_init__(self) -> None:
        if self.outlier_ratio < 1 or not 0 < self.narrowest <= 1 or min(self.shifts, self.candidates, self.rounds) < 1:
            raise BadInput(
                f"{self}: outlier_ratio, shifts, candidates and rounds are 1 or more, narrowest above 0 and up to 1"
            )

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the quantised model."""
        stream: Collection[Operand] = ()
        if self.scope == "full":
            net, full = prepare_in_full(model, bits)
            stream = full.stream()
        else:
            net = prepare(model, bits)
        refuse_float_sides(net, self.title)
        observe_weights(net, symmetric=True)
        observe_activations(net, calibration, RunningMinMax)
        if self.two_scale_channels:
            self._two_scale_channels(net, calibration, stream)
        self.search().run(net, calibration)
        return net.switch(True)

    def search(self) -> TwoScaleSearch:
        """Return the search over the grids of each operator."""
        return TwoScaleSearch(
            regions={"softmax": "magnitude", "gelu": "magnitude"} if self.two_scale_values else {},
            factors=narrowing(self.narrowest, self.candidates), shifts=self.shifts, rounds=self.rounds,
            two_scale_factors=narrowing(self.narrowest, max(1, self.candidates // 4)),
        )  # fmt: skip

    def notes(self) -> list[str]:
        """Return what is quantised besides the operands of products."""
        more = "embeddings, residual sums, outputs of attention and MLP and logits, scores at 8 bits"
        return [f"fully quantised: besides the operands of products also {more}"] if self.scope == "full" else []

    def _two_scale_channels(self, net: PreparedModel, calibration: Calibration, stream: Collection[Operand]) -> None:
        for slot, (low, high) in (channel_ranges(net, calibration, stream) if stream else {}).items():
            scale, zero = two_scales(low, high, slot.bits, self.outlier_ratio)
            slot.quantizer = Uniform(slot.bits, scale, zero, axis=slot.channel_axis, granularity="channel")


def two_scales(low: Tensor, high: Tensor, bits: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Return scale and zero point of each channel, (channels,): one pair for most of them, one for the outliers.

    Outliers have a range above `ratio` times the median; their scale is the least power of two times the others' that
    covers them.
    """
    width = high - low
    wide = width > ratio * width.median()
    scale, zero = asymmetric_parameters(low[~wide].amin(), high[~wide].amax(), bits)
    if not wide.any():
        return scale.expand_as(low), zero.expand_as(low)
    least, most = low[wide].amin().clamp_max(0), high[wide].amax().clamp_min(0)
    needed, _ = asymmetric_parameters(least, most, bits)
    wide_scale = scale * (needed / scale).log2().ceil().clamp_min(0).exp2()
    wide_zero = (-least / wide_scale).round().clamp(0, 2**bits - 1)
    return wide_scale.where(wide, scale), wide_zero.where(wide, zero)
