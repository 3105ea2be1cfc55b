"""PTQ-ViT (Liu et al., 2021) in our reading: most similar outputs, attention in its order, corrected biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitptq import (
    BadInput,
    BitSpec,
    Calibration,
    Method,
    Operand,
    Quantizer,
    RunningMinMax,
    observe_activations,
    prepare,
    report,
)
from vitptq.bench.bits import FLOAT_BITS
from vitptq.methods.core.model.operands import Layer, MatMul
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.ranges.estimation import min_max, uniform
from vitptq.methods.core.search.bit_allocation import AllotBy, allot_bits
from vitptq.methods.core.search.candidates import multiples
from vitptq.methods.core.search.module_run import Call, Loss, ModuleRun, stretched, switched
from vitptq.methods.core.search.recording import Operator, sides
from vitptq.methods.core.search.uniform_search import refuse_float_sides

FLOOR = 1e-12
"""Least variance and spread that something is divided by: what is constant is similar to nothing."""


@dataclass(frozen=True)
class PTQViT(Method):
    """Intervals of weights and inputs by turns, for outputs that correlate most with those in float.

    1. Of 100 multiples of each interval the one of highest Pearson correlation between an operator's output and the
       float output; by turns for both sides.
    2. Of queries and keys, less `gamma` times a ranking loss: sum of max(0, theta - (A^_i - A^_j) sign(A_i - A_j)) over
       pairs in each row of the attention scores A.
    3. What the mean output of each channel has moved is taken out of the layer's bias.

    Where the bit spec is an average (W4A4+mixed), widths are allotted first: greedily, by the squared error of each
    operator's output times its nuclear norm.
    """

    name = "ptq-vit"
    title = "PTQ-ViT 2021 (our reading)"
    fidelity = "inferred"
    inferred = (
        "the abstract is what is known, and that the similarity is Pearson's; weights of the ranking loss and the "
        "ranges of the search are ours",
        "grids per tensor: weights symmetric, activations asymmetric",
        "the ranking loss is a mean over pairs, theta a share of the spread of the row, and pairs are each score with "
        "those 1, 2, 4, ... places on (all pairs grow with the square of the tokens)",
        "on the scores in front of the softmax, whose order is that of the probabilities",
        "operators are searched one by one on float inputs, the bias corrected there, too",
        "mixed precision: operands one by one with all others in float, `reach` bits around the average, from the "
        "widest down; the paper's candidates and solver are not known",
    )
    paper = "Liu et al., Post-Training Quantization for Vision Transformer, NeurIPS 2021, arXiv 2106.14156"
    trial: ClassVar = {"candidates": 4, "rounds": 1}

    gamma: float = 0.1
    """Weight of the ranking loss; 0 leaves the correlation alone."""
    theta: float = 0.2
    """By how much two scores must differ in the right direction, in standard deviations of their row."""
    correct_bias: bool = True
    alpha: float = 0.5
    beta: float = 1.2
    candidates: int = 100
    rounds: int = 3
    allot_by: AllotBy = "nuclear"
    """What an operand is said to lose at few bits, where the bit spec is an average; "even": one width for all."""
    reach: int = 2
    """Bits by which an operand's width may differ from the average."""

    def __post_init__(self) -> None:
        if min(self.gamma, self.theta) < 0 or min(self.candidates, self.rounds, self.reach) < 1:
            raise BadInput(f"{self}: gamma and theta are 0 or more, candidates, rounds and reach 1 or more")

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the most similar outputs."""
        net = prepare(model, bits)
        refuse_float_sides(net, self.title)
        if bits.mixed:
            allot_bits(net, calibration, self.allot_by, reach=self.reach)
        start(net, calibration)
        factors = multiples(self.alpha, self.beta, self.candidates).tolist()
        operators = [module for module in net.model.modules() if isinstance(module, Operator)]
        for done, operator in enumerate(operators):
            report("scale search", done, len(operators))
            run = ModuleRun(net, calibration, operator)
            run.search(sides(operator), partial(candidates, factors=factors), self.loss(operator), self.rounds)
            if self.correct_bias and isinstance(operator, Layer):
                correct_bias(run, operator)
        return net.switch(True)

    def loss(self, operator: Operator) -> Loss:
        """Return what an operator's slots are judged by."""
        if self.gamma and isinstance(operator, MatMul) and operator.left_operand.role == "query":
            return lambda output, call: dissimilarity(output, call) + self.gamma * disorder(output, call, self.theta)
        return dissimilarity


def start(net: PreparedModel, calibration: Calibration) -> None:
    """Set every slot to its min-max grid per tensor."""
    observe_activations(net, calibration, RunningMinMax)
    for slot in net.weights.values():
        if slot.bits != FLOAT_BITS:
            slot.quantizer = uniform(*min_max(net.weight(slot).detach().reshape(1, -1)), slot.bits, symmetric=True)


def candidates(slot: Operand, factors: Sequence[float]) -> list[Quantizer]:
    """Return the multiples of a slot's interval."""
    return stretched(slot.quantizer, factors)


def dissimilarity(output: Tensor, call: Call) -> Tensor:
    """Return minus the Pearson correlation of the output with the float one."""
    a, b = (x.flatten() - x.mean() for x in (output, call.target))
    correlation: Tensor = torch.dot(a, b) / (a.norm() * b.norm()).clamp_min(FLOOR)
    return -correlation


def disorder(output: Tensor, call: Call, theta: float) -> Tensor:
    """Return the ranking loss of scores (B, heads, T, T): by how much pairs of a row miss their order, a mean."""
    spread = call.target.std(dim=-1, keepdim=True, correction=0).clamp_min(FLOOR)
    now, float_ones = output / spread, call.target / spread
    tokens, losses, apart = output.shape[-1], [], 1
    while apart < tokens:
        gap, wanted = (x - x.roll(-apart, dims=-1) for x in (now, float_ones))
        losses.append((theta - gap * wanted.sign()).clamp_min(0).mean())
        apart *= 2
    return torch.stack(losses).mean() if losses else output.new_zeros(())


def correct_bias(run: ModuleRun, layer: Layer) -> None:
    """Take the mean error of each output channel, over all images and positions, out of the layer's bias."""
    axis = layer.input_operand.channel_axis
    with switched(run.net, sides(layer)):
        errors = [(run.output(call) - call.target).movedim(axis, 0).flatten(1) for call in run.calls]
    if not errors:
        return
    moved = torch.cat(errors, dim=1).mean(dim=1)  # (out,)
    bias: Tensor | None = layer.bias  # Swin's patch merging has none
    layer.bias = nn.Parameter(-moved if bias is None else bias - moved, requires_grad=False)
