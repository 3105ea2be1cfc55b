"""MPTQ-ViT in our reading: smoothing with a shift behind LayerNorms, and a searched ratio of two steps behind GELUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import (
    BadInput,
    BitSpec,
    Calibration,
    Linear,
    Method,
    PreparedModel,
    RunningMinMax,
    fold_into_layer_norm,
    observe_activations,
    observe_weights,
    prepare,
)
from vitptq.bench.bits import Role
from vitptq.methods.core.quantizers.two_scale import Regions
from vitptq.methods.core.ranges.channel_ranges import channel_ranges
from vitptq.methods.core.search.bit_allocation import AllotBy, allot_bits
from vitptq.methods.core.search.two_scale_search import TwoScaleSearch, narrowing
from vitptq.methods.core.search.uniform_search import refuse_float_sides

FLOOR = 1e-5
"""Least range of a channel and of a weight's column; what is constant would otherwise divide by 0."""


@dataclass(frozen=True)
class MPTQViT(Method):
    """Channels behind a LayerNorm are centred and scaled, GELU outputs have two steps, all grids searched by operator.

    1. SQ-b: x^ = (x - b) / s per channel behind each LayerNorm, folded into it; the layer that reads it has W diag(s)
       and a bias larger by W b, so that the float function stays.
    2. OPT-m: the negative and the positive values behind a GELU have steps whose ratio 2^m is searched, and so have
       small and large attention probabilities.
    3. All grids of an operator are narrowed by turns to the least squared error of its output.

    Where the bit spec is an average (W4A4+mixed), widths are allotted behind the fold: greedily, by what the
    predictions lose with one operand at few bits, per bit that is saved.
    """

    name = "mptq-vit"
    title = "MPTQ-ViT (our reading)"
    fidelity = "inferred"
    inferred = (
        "only the abstract is public: SmoothQuant with a bias, a data-driven ratio of the regions behind GELU, greedy "
        "mixed precision; how s, b and m are chosen is ours",
        "b: the middle of a channel's range; s: SmoothQuant's, of the centred channel, with alpha 0.5",
        "m and the ranges by the squared error of the operator's output, on float inputs",
        "probabilities have the two steps of TSPTQ-ViT, by the same authors",
        "weights symmetric per output channel, activations asymmetric per tensor, starting at the extreme values",
        "mixed precision: the divergence of the predictions stands for the accuracy that the paper scores by; operands "
        "one by one with all others in float, `reach` bits around the average, from the widest down",
        "the form that quantises LayerNorm and softmax, too, is not offered",
    )
    paper = "Tai and Wu, MPTQ-ViT, 2024, arXiv 2401.14895"
    trial: ClassVar = {"candidates": 5}

    alpha: float = 0.5
    """How much of the difficulty moves into the weights; 0 equalises the weights, 1 the activations."""
    smooth: bool = True
    """Scale the channels (s); without it s = 1."""
    centre: bool = True
    """Shift the channels (b); without it b = 0."""
    gelu: Literal["sign", "magnitude", "one"] = "sign"
    """What has the fine step behind a GELU: negative values, small ones, or all."""
    shifts: int = 8
    narrowest: float = 0.2
    """Of a grid's range, among the candidates."""
    candidates: int = 40
    rounds: int = 2
    allot_by: AllotBy = "divergence"
    """What an operand is said to lose at few bits, where the bit spec is an average; "even": one width for all."""
    reach: int = 2
    """Bits by which an operand's width may differ from the average."""

    def __post_init__(self) -> None:
        counts = min(self.shifts, self.candidates, self.rounds, self.reach)
        if not (0 <= self.alpha <= 1 and 0 < self.narrowest <= 1) or counts < 1:
            raise BadInput(f"{self}: alpha is 0 to 1, narrowest above 0 and up to 1, the counts 1 or more")

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the smoothed, quantised model."""
        net = prepare(model, bits)
        refuse_float_sides(net, self.title)
        self.fold(net, calibration)
        if bits.mixed:
            allot_bits(net, calibration, self.allot_by, reach=self.reach)
        observe_weights(net, symmetric=True)
        observe_activations(net, calibration, RunningMinMax)
        self.search().run(net, calibration)
        return net.switch(True)

    def fold(self, net: PreparedModel, calibration: Calibration) -> None:
        """Fold b and s of every LayerNorm into it and its readers (SQ-b)."""
        pairs = net.norm_readers()
        ranges = channel_ranges(net, calibration, [readers[0].input_operand for _, readers in pairs]) if pairs else {}
        for norm, readers in pairs:
            low, high = ranges[readers[0].input_operand]
            middle = (low + high) / 2 if self.centre else torch.zeros_like(low)
            factors = self.factors((high - middle).maximum(middle - low), readers)
            fold_into_layer_norm(norm, readers, scale=factors, shift=-middle)

    def factors(self, largest: Tensor, readers: tuple[Linear, ...]) -> Tensor:
        """Return s_j = max|X_j|^alpha / max|W_j|^(1 - alpha) per input channel, (in,)."""
        if not self.smooth:
            return torch.ones_like(largest)
        weights = torch.cat([reader.weight for reader in readers]).abs().amax(dim=0)  # (out, in) to (in,)
        return largest.clamp_min(FLOOR).pow(self.alpha) / weights.clamp_min(FLOOR).pow(1 - self.alpha)

    def search(self) -> TwoScaleSearch:
        """Return the search over the grids of each operator (OPT-m)."""
        regions: dict[Role, Regions] = {"softmax": "magnitude"}
        if self.gelu != "one":
            regions["gelu"] = self.gelu
        return TwoScaleSearch(
            regions=regions, factors=narrowing(self.narrowest, self.candidates), shifts=self.shifts,
            rounds=self.rounds, two_scale_factors=narrowing(self.narrowest, max(1, self.candidates // 4)),
        )  # fmt: skip
