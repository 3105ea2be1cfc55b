"""Scale searches at the output of an operator: candidates for one side of a product, scored against the float output.

An operator is a linear layer, a convolution or an attention product. Its sides are called `first` (the weight, or the
left factor) and `second` (the input, or the right factor). Candidates are computed many at a time, and so many that the
tensors of one step stay within a stated memory budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.protocol import Calibration, Quantizer
from methods.core.explicit import Explicit
from methods.core.observe import watching
from methods.core.operands import Convolution, Linear, MatMul, Operand
from methods.core.quantizers import SCALE_FLOOR, Granularity, Uniform

Operator = Linear | Convolution | MatMul
Side = Literal["first", "second"]
SIDES: tuple[Side, Side] = ("first", "second")
Candidates = Callable[[Tensor, int, int], Tensor]
"""(x, from, to) to the quantised candidates of x, shape (to - from, *x.shape)."""
Score = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(outputs (K, n, H, T, C), float output (n, H, T, C), gradient) to scores summed over the samples, (K, groups)."""

MEGABYTE = 2**20
COPIES = 4
"""Tensors of the size of a step's outputs that live at once: the outputs, and what the score makes of them."""


@dataclass(frozen=True)
class Trace:
    """What passes through one operator on the calibration images, all batches joined along the first axis."""

    operator: Operator
    first: Tensor
    second: Tensor
    output: Tensor
    """The float output; (N, heads, T, C) of a product, (N, ..., C) of a linear layer, (N, C, H, W) of a convolution."""
    gradient: Tensor | None = None
    """dL/d output, where a method asked for it."""


def sides(operator: Operator) -> tuple[Operand, Operand]:
    """Return the slots of the first and of the second side."""
    if isinstance(operator, MatMul):
        return operator.left_operand, operator.right_operand
    return operator.weight_operand, operator.input_operand


def operators(net: Explicit, calibration: Calibration) -> dict[str, Operator]:
    """Return the operators by name, in the order in which they run."""
    found: dict[str, Operator] = {}
    names = {module: name for name, module in net.model.named_modules() if isinstance(module, Operator)}

    def enter(module: Any, args: Any) -> None:
        found[names[module]] = module

    handles = [module.register_forward_pre_hook(enter) for module in names]
    try:
        with torch.no_grad():
            calibration.forward(net.model, next(iter(calibration.batches())))
    finally:
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def on_first_batch(
    net: Explicit,
    calibration: Calibration,
    found: dict[str, Operator],
    quantizer: Callable[[str, Operator, Side, Tensor], Quantizer],
) -> None:
    """Set every operand to `quantizer(name, operator, side, x)`; `x` is what it reads, in float, on the first batch."""
    places = {slot: (name, side) for name, op in found.items() for slot, side in zip(sides(op), SIDES, strict=True)}

    def watch(operand: Operand, x: Tensor) -> None:
        name, side = places[operand]
        operand.quantizer = quantizer(name, found[name], side, x)

    net.switch(False)
    batch = next(iter(calibration.batches()))
    watching(net.operands, watch, lambda: calibration.forward(net.model, batch))


class Enough(Exception):
    """Ends a forward pass behind the operator that is recorded."""


@torch.no_grad()
def record(net: Explicit, calibration: Calibration, operator: Operator) -> Trace:
    """Return what passes through `operator`, with the operands of the model switched as they are.

    The sides are recorded in front of their slots, that is, before they are quantised.
    """
    seen: list[tuple[Tensor, ...]] = []

    def leave(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((*args, output))
        raise Enough

    handle = operator.register_forward_hook(leave)
    try:
        for batch in calibration.batches():
            try:
                calibration.forward(net.model, batch)
            except Enough:
                continue
    finally:
        handle.remove()
    *inputs, output = (torch.cat(parts) for parts in zip(*seen, strict=True))
    first = inputs[0] if isinstance(operator, MatMul) else operator.weight.detach()
    return Trace(operator, first, inputs[-1], output)


def outputs(operator: Operator, first: Tensor, second: Tensor, side: Side) -> Tensor:
    """Return the outputs (K, n, ...) for K candidates of `side`, which has one axis more in front than the other."""
    if isinstance(operator, MatMul):
        right = second.transpose(-2, -1) if operator.transpose else second
        return torch.matmul(first, right)
    if side == "second":
        merged = _layer(operator, first, second.flatten(0, 1), operator.bias)
        return merged.unflatten(0, second.shape[:2])
    count = len(first)
    bias: Tensor | None = operator.bias
    if isinstance(operator, Linear):
        out = nn.functional.linear(second, first.flatten(0, 1)).unflatten(-1, (count, -1)).movedim(-2, 0)
        return out if bias is None else out + bias
    # Candidates go inside each group of the convolution: (K, groups, out / groups, ...) to (groups, K, ...). Behind
    # the groups they would meet other channels' inputs, which is how depthwise searches go wrong.
    groups = operator.groups
    merged_weight = first.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 2)
    out = _layer(operator, merged_weight, second, None)  # (n, groups * K * out / groups, H, W)
    out = out.unflatten(1, (groups, count, -1)).movedim(2, 0).flatten(2, 3)
    return out if bias is None else out + bias[:, None, None]


def _layer(operator: Linear | Convolution, weight: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(operator, Linear):
        return nn.functional.linear(x, weight, bias)
    return operator._conv_forward(x, weight, bias)


def canonical(operator: Operator, output: Tensor, leading: int) -> Tensor:
    """Arrange outputs (*leading, *shape) as (*leading, heads, positions, channels); one head but for products."""
    if isinstance(operator, MatMul):
        return output
    if isinstance(operator, Convolution):
        return output.flatten(-2).transpose(-2, -1).unsqueeze(-3)
    return output.reshape(*output.shape[:leading], 1, -1, output.shape[-1])


def search(
    trace: Trace, side: Side, other: Tensor, count: int, candidates: Candidates, score: Score, memory: int
) -> Tensor:
    """Return the best of `count` candidates of `side` per group of the score, shape (groups,); ties: the first."""
    return scored(trace, side, other, count, candidates, score, memory).argmax(dim=0)


def scored(
    trace: Trace, side: Side, other: Tensor, count: int, candidates: Candidates, score: Score, memory: int
) -> Tensor:
    """Return the scores of `count` candidates of `side`, shape (count, groups).

    `other` is the other side as it is to be used. Candidates, and samples where one candidate alone is too large, go in
    chunks, so that a step's operands and outputs take about `memory` bytes; the scores are sums over the samples.
    """
    operator, target = trace.operator, canonical(trace.operator, trace.output, 1)
    gradient = None if trace.gradient is None else canonical(operator, trace.gradient, 1)
    x = getattr(trace, side)
    weight = side == "first" and not isinstance(operator, MatMul)
    one = COPIES * target[:1].numel() * target.element_size() + (0 if weight else 2 * x[:1].numel() * x.element_size())
    samples = max(1, min(len(target), memory // one))
    together = max(1, min(count, memory // (one * samples)))
    total: list[Tensor] = []
    for start in range(0, count, together):
        stop = min(start + together, count)
        fixed = candidates(x, start, stop) if weight else None
        part: Tensor | None = None
        for at in range(0, len(target), samples):
            rows = slice(at, at + samples)
            varied = candidates(x[rows], start, stop) if fixed is None else fixed
            same = other[rows] if isinstance(operator, MatMul) or weight else other
            out = outputs(operator, varied, same, side) if side == "first" else outputs(operator, same, varied, side)
            found = score(canonical(operator, out, 2), target[rows], None if gradient is None else gradient[rows])
            part = found if part is None else part + found
        assert part is not None
        total.append(part)
    return torch.cat(total)


def group_sums(x: Tensor, groups: Tensor | None) -> Tensor:
    """Return sums over the channels of each group, (..., C) to (..., G); `groups` (C,) numbers them, None is one."""
    if groups is None:
        return x.sum(-1, keepdim=True)
    membership = nn.functional.one_hot(groups).to(x)  # (C, G)
    return x @ membership


def cosine(axes: tuple[int, ...], groups: Tensor | None, *, by_head: bool) -> Score:
    """Return the cosine similarity along `axes` of (n, heads, T, C), summed over everything else.

    Where the last axis is among them, channels are compared group by group. An all-zero side has similarity 0.
    """

    def score(out: Tensor, target: Tensor, gradient: Tensor | None) -> Tensor:
        dot, left, right = out * target, out.square(), target.square()[None]
        if -1 in axes:
            dot, left, right = (group_sums(x, groups) for x in (dot, left, right))
        rest = [axis for axis in axes if axis != -1]
        if rest:
            dot, left, right = (x.sum(rest, keepdim=True) for x in (dot, left, right))
        similarity = dot / (left * right).clamp_min(1e-30).sqrt()  # (K, n, heads, T, C or G)
        return _by_group(similarity.sum((1, 3)), by_head)

    return score


def weighted_error(groups: Tensor | None, *, by_head: bool) -> Score:
    """Return minus the sum of (G (O - O^))^2 (PTQ4ViT, equation 8); without a gradient, of the plain error."""

    def score(out: Tensor, target: Tensor, gradient: Tensor | None) -> Tensor:
        error = out.sub_(target)
        if gradient is not None:
            error.mul_(gradient)
        return _by_group(-group_sums(error.square_().sum((1, 3)), groups), by_head)

    return score


def _by_group(x: Tensor, by_head: bool) -> Tensor:
    """Arrange scores (K, heads, G) as (K, groups); only one of the two is more than one where heads count apart."""
    return x.flatten(1) if by_head else x.sum(1)


@dataclass(frozen=True)
class Grouping:
    """Which values of one side share a scale: all, each head, each output channel, or the rows of q, k and v."""

    axis: int | None
    groups: Tensor | None
    """The group of each index along `axis`."""
    granularity: Granularity

    def starts(self, x: Tensor, bits: int) -> Tensor:
        """Return D0 = max|x| / (2^(b-1) - 0.5) per group, shape (groups,) (PTQ4ViT)."""
        if self.axis is None or self.groups is None:
            largest = x.abs().amax().reshape(1)
        else:
            each = x.abs().movedim(self.axis, 0).flatten(1).amax(1)
            largest = each.new_zeros(int(self.groups.max()) + 1).scatter_reduce(0, self.groups, each, "amax")
        return (largest / (2 ** (bits - 1) - 0.5)).clamp_min(SCALE_FLOOR)

    def quantizer(self, scale: Tensor, bits: int) -> Uniform:
        """Return the symmetric quantizer with one scale per group, spread over the indices of the axis."""
        spread = scale if self.groups is None else scale[self.groups]
        return Uniform(
            bits, spread, torch.zeros_like(spread), axis=self.axis, granularity=self.granularity, signed=True
        )

    def candidates(self, scales: Tensor, bits: int) -> Candidates:
        """Return x on the symmetric grid of each row of `scales` (K, groups)."""
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

        def quantised(x: Tensor, start: int, stop: int) -> Tensor:
            chosen = scales[start:stop]
            shape = [1] * x.ndim
            if self.axis is not None and self.groups is not None:
                chosen, shape[self.axis] = chosen[:, self.groups], -1
            step = chosen.reshape(stop - start, *shape)
            return (x * step.reciprocal()).round_().clamp_(low, high).mul_(step)

        return quantised


def grouping(net: Explicit, name: str, operator: Operator, side: Side, x: Tensor) -> Grouping:
    """Return PTQ4ViT's granularity: products per head, convolution weights per output channel, the rest per tensor.

    The rows of a joint query-key-value layer have three scales.
    """
    if isinstance(operator, MatMul):
        return Grouping(1, torch.arange(x.shape[1], device=x.device), "head")
    if side == "second":
        return Grouping(None, None, "tensor")
    if isinstance(operator, Convolution):
        return Grouping(0, torch.arange(len(x), device=x.device), "channel")
    rows = qkv_rows(net, name, len(x))
    return Grouping(None, None, "tensor") if rows is None else Grouping(0, rows.to(x.device), "channel")


def qkv_rows(net: Explicit, name: str, rows: int) -> Tensor | None:
    """Return which of query, key and value each row of a layer belongs to, None where it is not a joint layer."""
    parent_name, _, own = name.rpartition(".")
    if own != "qkv":
        return None
    parent = net.model.get_submodule(parent_name)
    told: Callable[[], Tensor] | None = getattr(parent, "qkv_groups", None)  # where they are not three blocks of rows
    return torch.arange(rows) // (rows // 3) if told is None else told()


def multiples(start: Tensor, alpha: float, beta: float, count: int) -> Tensor:
    """Return D_i = (alpha + i (beta - alpha) / count) D0 for i = 0 .. count - 1, (groups,) to (count, groups).

    As in PTQ4ViT's code, beta itself is never reached.
    """
    factors = alpha + torch.arange(count, device=start.device) * ((beta - alpha) / count)
    return factors[:, None] * start
