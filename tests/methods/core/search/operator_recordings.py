"""Operators of every kind with what passes through them, and the losses of candidates by definition, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.operands import Conv2d, Convolution, ConvTranspose2d, Linear, MatMul
from vitptq.methods.core.search.candidates import Candidates
from vitptq.methods.core.search.objective import ALL_POSITIONS, CHANNELS, POSITIONS, Cosine, Objective, SquaredError
from vitptq.methods.core.search.recording import Operator, Recording, Rows, Side

BITS = BitSpec(4, 4)
OPERATORS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: Linear(nn.Linear(6, 9), BITS), (3, 5, 6)),
    "linear without bias on vectors": (lambda: Linear(nn.Linear(6, 4, bias=False), BITS), (3, 6)),
    "convolution": (lambda: Conv2d(nn.Conv2d(6, 8, 3, padding=1), BITS), (3, 6, 5, 4)),
    "grouped convolution": (lambda: Conv2d(nn.Conv2d(6, 9, 3, groups=3, stride=2), BITS), (3, 6, 7, 7)),
    "depthwise convolution": (lambda: Conv2d(nn.Conv2d(6, 6, 3, groups=6, bias=False), BITS), (3, 6, 5, 5)),
    "depthwise with a multiplier": (lambda: Conv2d(nn.Conv2d(4, 8, 3, groups=4), BITS), (3, 4, 5, 5)),
    "transposed convolution": (lambda: ConvTranspose2d(nn.ConvTranspose2d(6, 5, 3, stride=2), BITS), (3, 6, 4, 3)),
    "queries and keys": (lambda: MatMul("query", "key", BITS, transpose=True), (3, 2, 5, 6)),
    "probabilities and values": (lambda: MatMul("softmax", "value", BITS), (3, 2, 5, 5)),
}


OBJECTIVES: dict[str, Any] = {
    "weighted error": lambda groups, by_head: SquaredError(groups, by_head),
    "plain error": lambda groups, by_head: SquaredError(groups, by_head),
    "token cosine": lambda groups, by_head: Cosine(groups, by_head, CHANNELS),
    "whole cosine": lambda groups, by_head: Cosine(groups, by_head, (-2, -1) if by_head else ALL_POSITIONS),
    "position cosine": lambda groups, by_head: Cosine(None, False, POSITIONS),
}


def recording_of(kind: str) -> Recording:
    """Return a random recording of one kind of operator, with a gradient."""
    torch.manual_seed(1)
    build, shape = OPERATORS[kind]
    return random_recording(build().requires_grad_(False), shape)


def recordings_of_sizes(kind: str) -> list[Recording]:
    """Return what an operator puts out on images of two sizes."""
    first = recording_of(kind)
    count, *inner = OPERATORS[kind][1]
    if kind == "queries and keys":
        other = [*inner[:-2], 7, inner[-1]]
    elif isinstance(first.operator, MatMul):
        other = [*inner[:-2], 7, 7]
    elif isinstance(first.operator, Convolution):
        other = [inner[0], 6, 9]
    else:
        other = [*(7 for _ in inner[:-1]), inner[-1]]
    assert not isinstance(first.operator, Rows)
    return [first, random_recording(first.operator, (count + 1, *other))]


def random_recording(operator: Operator, shape: Sequence[int]) -> Recording:
    """Return a recording of random inputs, with a gradient."""
    second = torch.randn(shape)
    first = torch.randn(shape) if isinstance(operator, MatMul) else operator.weight
    output = run(operator, first, second)
    return Recording(operator, first, second, output, gradient=torch.randn(output.shape))


def run(operator: Operator, first: Tensor, second: Tensor) -> Tensor:
    """Run an operator by its own forward, on given sides."""
    if isinstance(operator, MatMul):
        return operator(first, second)
    kept, operator.weight = operator.weight, nn.Parameter(first, requires_grad=False)
    try:
        return operator(second)
    finally:
        operator.weight = kept


def loop_in_float64(recording: Recording, side: Side, candidates: Candidates, objective: Objective) -> Tensor:
    """Return losses (candidates, groups), one candidate after the other, by definition."""
    operator: Any = recording.operator
    x, found = getattr(recording, side), []
    for place in range(candidates.count):
        rounded = candidates.quantizer(torch.tensor([place]))(x)
        first, second = (rounded, recording.second) if side == "first" else (recording.first, rounded)
        out, target = (y.double() for y in (exact(operator, first, second), recording.output))
        if not isinstance(operator, MatMul):
            axis = 1 if isinstance(operator, Convolution) else -1
            out, target = (
                y.movedim(axis, -1).reshape(len(recording.output), 1, -1, len(recording.first)) for y in (out, target)
            )  # (n, 1, T, C)
        groups = objective.groups
        if isinstance(objective, Cosine):
            similarity = by_cosine(objective, out, target)
            found.append(similarity)
            continue
        error = (out - target).square()
        if recording.gradient is not None:
            gradient = recording.gradient.double()
            if not isinstance(operator, MatMul):
                gradient = gradient.movedim(axis, -1).reshape(len(recording.output), 1, -1, len(recording.first))
            error = error * gradient.square()
        if objective.by_head:
            found.append(error.sum((0, 2, 3)))
        else:
            channels = error.sum((0, 1, 2))
            found.append(
                channels.sum()[None]
                if groups is None
                else torch.zeros(int(groups.max()) + 1).double().index_add(0, groups, channels)
            )
    return torch.stack(found)


def by_cosine(objective: Cosine, out: Tensor, target: Tensor) -> Tensor:
    count = 1 if objective.groups is None else int(objective.groups.max()) + 1
    groups = torch.zeros(out.shape[-1], dtype=torch.long) if objective.groups is None else objective.groups
    if objective.axes == POSITIONS:
        return (1 - nn.functional.cosine_similarity(out, target, dim=2)).sum((0, 1))
    found = []
    for number in range(count):
        pair = [y[..., groups == number] for y in (out, target)]
        if objective.axes == (-2, -1):
            pair = [y.flatten(2) for y in pair]
        elif objective.axes == ALL_POSITIONS:
            pair = [y.flatten(1) for y in pair]
        distance = 1 - nn.functional.cosine_similarity(*pair, dim=-1)
        found.append(
            distance.flatten(2).sum((0, 2))
            if objective.by_head and distance.ndim > 2
            else distance.sum(0)
            if objective.by_head
            else distance.sum()[None]
        )
    return torch.cat(found)


def exact(operator: Any, first: Tensor, second: Tensor) -> Tensor:
    """Run an operator by torch's own functions in float64."""
    first, second = first.double(), second.double()
    if isinstance(operator, MatMul):
        return first @ (second.transpose(-2, -1) if operator.transpose else second)
    bias = None if operator.bias is None else operator.bias.double()
    if isinstance(operator, Linear):
        return nn.functional.linear(second, first, bias)
    if isinstance(operator, ConvTranspose2d):
        return nn.functional.conv_transpose2d(second, first.transpose(0, 1), bias, operator.stride)
    return nn.functional.conv2d(
        second, first, bias, operator.stride, operator.padding, operator.dilation, operator.groups
    )
