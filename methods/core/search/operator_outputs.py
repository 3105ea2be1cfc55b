"""The outputs of an operator for many candidates of one side at once, and how they are arranged to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vitptq.methods.core.model.operands import Conv2d, Convolution, Linear, MatMul
from vitptq.methods.core.search.recording import Operator, Recording, Rows, Side


def outputs(operator: Operator | Rows, first: Tensor, second: Tensor, side: Side) -> Tensor:
    """Return the outputs (K, n, ...) for K candidates of `side`, which has one axis more in front than the other."""
    if isinstance(operator, MatMul):
        return _products(first, second.transpose(-2, -1) if operator.transpose else second, side)
    if side == "second":
        merged: Tensor = _layer(operator, first, second.flatten(0, 1), operator.bias).unflatten(0, second.shape[:2])
        return merged
    out: Tensor
    count = len(first)
    bias: Tensor | None = operator.bias
    if isinstance(operator, Linear | Rows):
        out = nn.functional.linear(second, first.flatten(0, 1)).unflatten(-1, (count, -1)).movedim(-2, 0)
        return out if bias is None else out + bias
    groups = operator.groups
    if len(first[0]) == groups > 1:  # depthwise: libraries are fast only with one output per input
        return torch.stack([_layer(operator, weight, second, bias) for weight in first])
    # Candidates go inside each group of the convolution: (K, groups, out / groups, ...) to (groups, K, ...). Behind
    # the groups they would meet other channels' inputs, which is how grouped searches go wrong.
    merged_weight = first.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 2)
    out = _layer(operator, merged_weight, second, None)  # (n, groups * K * out / groups, H, W)
    out = out.unflatten(1, (groups, count, -1)).movedim(2, 0).flatten(2, 3)
    return out if bias is None else out + bias[:, None, None]


def _products(left: Tensor, right: Tensor, side: Side) -> Tensor:
    """Return left @ right with the candidates of one inside each matrix, as one product per sample and head.

    Broadcasting the fixed side would copy it for each candidate.
    """
    out: Tensor
    if side == "first":
        rows = left.movedim(0, -3)  # (n, heads, K, T, d)
        out = torch.matmul(rows.flatten(-3, -2), right).unflatten(-2, rows.shape[-3:-1])
        return out.movedim(-3, 0)
    columns = right.movedim(0, -2)  # (n, heads, d, K, C)
    out = torch.matmul(left, columns.flatten(-2)).unflatten(-1, columns.shape[-2:])
    return out.movedim(-2, 0)


def _layer(operator: Linear | Convolution | Rows, weight: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(operator, Linear | Rows):
        return nn.functional.linear(x, weight, bias)
    return operator._conv_forward(x, weight, bias)


def canonical(operator: Operator | Rows, output: Tensor, leading: int) -> Tensor:
    """Arrange outputs (*leading, *shape) as (*leading, heads, positions, channels); one head but for products."""
    if isinstance(operator, MatMul):
        return output
    if isinstance(operator, Convolution):
        return output.flatten(-2).transpose(-2, -1).unsqueeze(-3)
    if isinstance(operator, Rows):
        return output.unsqueeze(-2).unsqueeze(-2)
    return output.reshape(*output.shape[:leading], 1, -1, output.shape[-1])


def in_rows(recording: Recording) -> Recording:
    """Return the recording of a pointwise operator with its positions in a row, (R, channels); others as they are.

    Positions of a linear layer and of a 1x1 convolution do not mix, so each may be judged by itself. Axis 0 of a weight
    and axes 1 (of maps) and -1 (of tokens) of an input name the same channels as before.
    """
    operator = recording.operator
    if isinstance(operator, Linear):
        rows = _tokens
    elif isinstance(operator, Conv2d) and is_pointwise(operator):
        rows = _pixels
    else:
        return recording
    gradient = None if recording.gradient is None else rows(recording.gradient)
    return replace(
        recording,
        operator=Rows(operator.bias),
        first=recording.first.flatten(1),
        second=rows(recording.second),
        output=rows(recording.output),
        gradient=gradient,
    )


def joined_rows(parts: Sequence[Recording]) -> Sequence[Recording]:
    """Return recordings of an operator as one where all are rows, whose images' sizes no longer matter."""
    first, *others = parts
    if not others or not isinstance(first.operator, Rows):
        return parts
    second, output = (torch.cat([getattr(part, name) for part in parts]) for name in ("second", "output"))
    gradients = [part.gradient for part in parts if part.gradient is not None]
    return [replace(first, second=second, output=output, gradient=torch.cat(gradients) if gradients else None)]


def is_pointwise(operator: Conv2d) -> bool:
    """Tell whether a convolution is a linear layer on each pixel."""
    plain = operator.padding in ("same", "valid", (0, 0))
    return operator.kernel_size == operator.stride == (1, 1) and operator.groups == 1 and plain


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(end_dim=-2)


def _pixels(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def weighted_rows(recording: Recording) -> Recording:
    """Return the recording without rows whose gradient is 0: behind the last attention, all but one token."""
    if recording.gradient is None:
        return recording
    kept = recording.gradient.flatten(1).any(1).nonzero()[:, 0]
    return recording if len(kept) in (0, len(recording.gradient)) else rows_of(recording, kept)


def rows_of(recording: Recording, rows: Tensor) -> Recording:
    """Return some of the rows, named by their numbers."""
    return replace(
        recording,
        first=recording.first[rows] if isinstance(recording.operator, MatMul) else recording.first,
        second=recording.second[rows],
        output=recording.output[rows],
        gradient=None if recording.gradient is None else recording.gradient[rows],
    )
