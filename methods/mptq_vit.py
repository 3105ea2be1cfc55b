"""MPTQ-ViT in our reading: smoothing with a shift behind LayerNorms, and a searched ratio of two steps behind GELUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from vitptq import (
    BadInput,
    BitSpec,
    Calibration,
    Method,
    RunningMinMax,
    observe_activations,
    observe_weights,
    prepare,
)
from vitptq.bench.bits import Role
from vitptq.methods.core.model.full_with_shifts import prepare_in_full_to_fold
from vitptq.methods.core.quantizers.two_scale import Regions
from vitptq.methods.core.ranges.smoothing import smooth_behind_layer_norms
from vitptq.methods.core.search.bit_allocation import AllotBy
from vitptq.methods.core.search.stored_widths import allot_operand_bits
from vitptq.methods.core.search.two_scale_search import TwoScaleSearch, narrowing
from vitptq.methods.core.search.uniform_search import refuse_float_sides


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

    `scope`: "operands" is the operand map of the standard track; "full" quantises what is stored between layers, too,
    the input of LayerNorm and softmax among it (ViT, DeiT and Swin of timm).
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
        'scope="full": what lies between layers has the nominal width and grids at its extreme values; scores have 8 '
        "bits, LayerNorm and softmax compute in float on quantised values",
        "with both, an average counts the operands of products; queries, keys and values are stored in as many bits "
        "as the widest of them has",
    )
    paper = "Tai and Wu, MPTQ-ViT, 2024, arXiv 2401.14895"
    trial: ClassVar = {"candidates": 5}

    scope: Literal["operands", "full"] = "operands"
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
        net = (prepare if self.scope == "operands" else prepare_in_full_to_fold)(model, bits)
        refuse_float_sides(net, self.title)
        smooth_behind_layer_norms(net, calibration, self.alpha, smooth=self.smooth, centre=self.centre)
        if bits.mixed:
            allot_operand_bits(net, calibration, self.allot_by, reach=self.reach)
        observe_weights(net, symmetric=True)
        observe_activations(net, calibration, RunningMinMax)
        self.search().run(net, calibration)
        return net.switch(True)

    def notes(self) -> list[str]:
        """Return what is quantised besides the operands of products."""
        more = "embeddings, residual sums, outputs of attention and MLP and logits, scores at 8 bits"
        return [f"fully quantised: besides the operands of products also {more}"] if self.scope == "full" else []

    def search(self) -> TwoScaleSearch:
        """Return the search over the grids of each operator (OPT-m)."""
        regions: dict[Role, Regions] = {"softmax": "magnitude"}
        if self.gelu != "one":
            regions["gelu"] = self.gelu
        return TwoScaleSearch(
            regions=regions, factors=narrowing(self.narrowest, self.candidates), shifts=self.shifts,
            rounds=self.rounds, two_scale_factors=narrowing(self.narrowest, max(1, self.candidates // 4)),
        )  # fmt: skip
