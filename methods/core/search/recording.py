"""Operators and what passes through them: recorded on the calibration images, and computed for many candidates at once.

An operator is a linear layer, a convolution or an attention product. Its sides are called `first` (the weight, or the
left factor) and `second` (the input, or the right factor).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.operands import Conv2d, Convolution, Linear, MatMul, Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel

Operator = Linear | Convolution | MatMul
Side = Literal["first", "second"]
SIDES: tuple[Side, Side] = ("first", "second")


@dataclass(frozen=True, eq=False)
class Rows:
    """A linear layer on rows (R, in), without slots: what a pointwise operator is once its positions are in a row."""

    bias: Tensor | None


@dataclass(frozen=True)
class Trace:
    """What passes through one operator on the calibration images, all batches joined along the first axis."""

    operator: Operator | Rows
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


def operators(net: PreparedModel, calibration: Calibration) -> dict[str, Operator]:
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
    net: PreparedModel,
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
    with watching(net.operands, watch):
        calibration.forward(net.model, batch)


class StopForward(Exception):
    """Ends a forward pass behind the operator that is recorded."""


@torch.no_grad()
def record(net: PreparedModel, calibration: Calibration, operator: Operator) -> Trace:
    """Return what passes through `operator`, with the operands of the model switched as they are.

    The sides are recorded in front of their slots, that is, before they are quantised.
    """
    (trace,) = record_all(net, calibration, [operator])
    return trace


@torch.no_grad()
def record_all(net: PreparedModel, calibration: Calibration, recorded: Sequence[Operator]) -> list[Trace]:
    """Return what passes through each of `recorded`, in one pass over the images; see `record`."""
    seen: dict[nn.Module, list[tuple[Tensor, ...]]] = {operator: [] for operator in recorded}
    missing: set[nn.Module] = set()

    def leave(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen[module].append((*args, output))
        missing.discard(module)
        if not missing:
            raise StopForward

    handles = [operator.register_forward_hook(leave) for operator in recorded]
    try:
        for batch in calibration.batches():
            missing |= set(recorded)
            with suppress(StopForward):
                calibration.forward(net.model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return [_joined(operator, seen[operator]) for operator in recorded]


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Return what the batches gave, joined along the first axis, or say that their sizes differ."""
    shapes = dict.fromkeys(tuple(part.shape[1:]) for part in parts)
    if len(shapes) > 1:
        sizes = " and ".join(str(shape) for shape in list(shapes)[:2])
        raise Unsupported(
            f"the calibration images differ in size (one layer sees {sizes}), and this method's search joins them; "
            "RepQ-ViT, FQ-ViT and the reconstruction methods take images of any size"
        )
    return torch.cat(list(parts))


def _joined(operator: Operator, seen: list[tuple[Tensor, ...]]) -> Trace:
    *inputs, output = (joined(parts) for parts in zip(*seen, strict=True))
    first = inputs[0] if isinstance(operator, MatMul) else operator.weight.detach()
    return Trace(operator, first, inputs[-1], output)


def in_batches(
    net: PreparedModel, calibration: Calibration, found: Mapping[str, Operator], memory: int
) -> Iterator[list[str]]:
    """Yield the names of the operators, in order, in groups whose inputs, outputs and gradients take about `memory`."""
    sizes: dict[nn.Module, int] = {}

    def leave(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        values = sum(x.numel() * x.element_size() for x in (*args, output, output))
        sizes[module] = sizes.get(module, 0) + values

    handles = [operator.register_forward_hook(leave) for operator in found.values()]
    try:
        net.run(calibration)
    finally:
        for handle in handles:
            handle.remove()
    group: list[str] = []
    for name, operator in found.items():
        if group and sum(sizes[found[other]] for other in group) + sizes[operator] > memory:
            yield group
            group = []
        group.append(name)
    yield group


def in_rows(trace: Trace) -> Trace:
    """Return the trace of a pointwise operator with its positions in a row, (R, channels); others as they are.

    Positions of a linear layer and of a 1x1 convolution do not mix, so each may be judged by itself. Axis 0 of a weight
    and axes 1 (of maps) and -1 (of tokens) of an input name the same channels as before.
    """
    operator = trace.operator
    if isinstance(operator, Linear):
        rows = _tokens
    elif isinstance(operator, Conv2d) and is_pointwise(operator):
        rows = _pixels
    else:
        return trace
    gradient = None if trace.gradient is None else rows(trace.gradient)
    return replace(
        trace,
        operator=Rows(operator.bias),
        first=trace.first.flatten(1),
        second=rows(trace.second),
        output=rows(trace.output),
        gradient=gradient,
    )


def is_pointwise(operator: Conv2d) -> bool:
    """Tell whether a convolution is a linear layer on each pixel."""
    plain = operator.padding in ("same", "valid", (0, 0))
    return operator.kernel_size == operator.stride == (1, 1) and operator.groups == 1 and plain


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(end_dim=-2)


def _pixels(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def outputs(operator: Operator | Rows, first: Tensor, second: Tensor, side: Side) -> Tensor:
    """Return the outputs (K, n, ...) for K candidates of `side`, which has one axis more in front than the other."""
    if isinstance(operator, MatMul):
        return _products(first, second.transpose(-2, -1) if operator.transpose else second, side)
    if side == "second":
        merged = _layer(operator, first, second.flatten(0, 1), operator.bias)
        return merged.unflatten(0, second.shape[:2])
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
    if side == "first":
        rows = left.movedim(0, -3)  # (n, heads, K, T, d)
        out = torch.matmul(rows.flatten(-3, -2), right)
        return out.unflatten(-2, rows.shape[-3:-1]).movedim(-3, 0)
    columns = right.movedim(0, -2)  # (n, heads, d, K, C)
    out = torch.matmul(left, columns.flatten(-2))
    return out.unflatten(-1, columns.shape[-2:]).movedim(-2, 0)


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
