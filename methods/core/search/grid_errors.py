"""The error of grids at the output of linear layers and attention products, as AdaLog and APHQ-ViT search them.

Everything else is in float. The error is that of the operator's output, ||W^ X^ - W X||^2, computed from the
differences X^ - X and W^ - W, so that nothing cancels at 8 bits. All candidates of a step are judged to the end: the
search goes on from several of the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.operands import Linear, MatMul
from vitptq.methods.core.quantizers.uniform import OnGrids, on_grid
from vitptq.methods.core.ranges.estimation import some_values
from vitptq.methods.core.search.fpcs import Error
from vitptq.methods.core.search.recording import Inputs

STEP = {"cpu": 2**18, "cuda": 2**26}
"""Values of the largest tensor of a step: on a CPU what its cache holds, which is several times faster."""
STACKED = 8
"""Grids of a product's side that are computed as one product, where so many fit a step."""

GridKind = Callable[[Tensor], OnGrids]
"""A part of an operand to what puts it on grids of a kind; what does not depend on the grid is computed here."""


def rounded(operand_quantizer: Quantizer | None, x: Tensor) -> Tensor:
    """Return `x` on its grid, `x` itself where it has none yet."""
    return x if operand_quantizer is None else operand_quantizer(x)


def weight_error(layer: Linear, rows: Tensor) -> Error:
    """Return the output error of grids for the layer's weight rows, at its input as it is quantised now.

    A row's error is a quadratic form, so no candidate needs a pass over the rows: with d = w^ - w and the quantised
    input X^, it is d A d + 2 d v + const, A = X^'X^, v = X^'(X^ - X) w.
    """
    weight = layer.weight.detach()
    quantised = rounded(layer.input_operand.quantizer, rows)
    count = len(rows)
    second = quantised.T @ quantised / count  # (in, in)
    slope = quantised.T @ ((quantised - rows) @ weight.T) / count  # (in, out)
    constant = ((quantised - rows) @ weight.T).square().mean(0)  # (out,)
    return quadratic_error(weight, layer.weight_operand.bits, second, slope, constant)


def quadratic_error(weight: Tensor, bits: int, second: Tensor, slope: Tensor, constant: Tensor) -> Error:
    """Return d A d + 2 d v + const of grids for the rows of a weight (out, in); A is (in, in), v (in, out)."""

    def error(scale: Tensor, zero: Tensor) -> Tensor:
        found = []
        at_once = _together(scale.shape[1] * weight.shape[1], weight)
        for part in torch.arange(len(weight), device=weight.device).split(at_once):
            w, z = weight[part, None, :], zero[part, :, None]
            d = on_grid(w, scale[part, :, None], -z, 2**bits - 1 - z) - w
            value = ((d @ second) * d).sum(-1) + 2 * (d * slope.T[part, None, :]).sum(-1)
            found.append(value + constant[part, None])
        return torch.cat(found)  # (out, K)

    return error


def _together(size: int, like: Tensor) -> int:
    """Return how many candidates (or rows) of `size` values each are computed at once."""
    return max(1, STEP.get(like.device.type, STEP["cpu"]) // size)


def uniform(bits: int) -> GridKind:
    """Return the uniform grids of unsigned codes."""
    return lambda x: lambda scale, zero: on_grid(x, scale, -zero, 2**bits - 1 - zero)


def input_error(layer: Linear, rows: Tensor, kind: GridKind) -> Error:
    """Return the output error of grids for the layer's input, one group, at its weight as it is quantised now.

    Where there are more outputs than inputs, ||W^ e + c||^2 with e = x^ - x is computed from W^'W^, which is smaller.
    """
    weight = layer.weight.detach()
    quantised = rounded(layer.weight_operand.quantizer, weight)
    rest = rows @ (quantised - weight).T  # (n, out): what the weight alone does
    wide = len(weight) > weight.shape[1]
    square, slope = (quantised.T @ quantised, rest @ quantised) if wide else (quantised.T, rest)
    constant = rest.square().sum()

    width = max(square.shape)
    size = _together(width, rows)
    parts = [(x, kind(x[None]), c) for x, c in zip(rows.split(size), slope.split(size), strict=True)]

    def one(e: Tensor, slope: Tensor) -> Tensor:
        if wide:
            return (e @ square).add_(slope, alpha=2).mul_(e).sum((-1, -2))
        return (e @ square).add_(slope).square_().sum((-1, -2))

    def error(scale: Tensor, zero: Tensor) -> Tensor:
        total = torch.zeros_like(scale[0])
        for x, on_grids, c in parts:
            at_once = _together(len(x) * width, x)
            pairs = zip(*(values[0, :, None, None].split(at_once) for values in (scale, zero)), strict=True)
            total += torch.cat([one(on_grids(s, z).sub_(x), c) for s, z in pairs])
        return ((total + constant if wide else total) / len(rows))[None]  # (1, K)

    return error


def _stackable(product: MatMul, first: Tensor, second: Tensor, left: bool) -> tuple[Tensor, Tensor]:
    """Return (varied, fixed) whose product is that of both sides, or its transpose: candidates can stand on each other.

    Then K grids are one product with K times the rows, which is up to twice as fast as K products.
    """
    if left:
        varied, fixed = first, second.transpose(-2, -1) if product.transpose else second
    else:
        varied, fixed = second if product.transpose else second.transpose(-2, -1), first.transpose(-2, -1)
    return varied.contiguous(), fixed


def side_error(product: MatMul, inputs: Inputs, *, left: bool, kind: GridKind | None = None) -> Error:
    """Return the output error of grids for one side of a product, at its other side as it is quantised now.

    Uniform grids per head: `scale` and `zero` are (heads, K). With another `kind`, one group for all heads.
    """
    operand, other = (product.left_operand, product.right_operand)[:: 1 if left else -1]
    kind = kind or uniform(operand.bits)
    parts = []
    for first, second in zip(inputs.first, inputs.second, strict=True):
        varied, fixed = _stackable(product, first, second, left)
        target = varied @ fixed
        size = max(varied[0].numel(), target[0].numel())
        for x, y, t in zip(*(z.split(_together(STACKED * size, target)) for z in (varied, fixed, target)), strict=True):
            parts.append((kind(x[:, :, None]), y, t[:, :, None], _together(len(x) * size, t)))
    samples = sum(len(x) for x in inputs.first)

    @torch.no_grad()
    def error(scale: Tensor, zero: Tensor) -> Tensor:
        """Return (groups, K)."""
        total = torch.zeros_like(scale)
        for on_grids, y, target, at_once in parts:
            given = rounded(other.quantizer, y)
            found = []
            pairs = (values[None, :, :, None, None].split(at_once, dim=2) for values in (scale, zero))
            for s, z in zip(*pairs, strict=True):
                grids = on_grids(s, z)  # (N, heads, k, rows, columns)
                out = (grids.flatten(2, 3) @ given).view(*grids.shape[:4], -1).sub_(target)
                each = torch.linalg.vector_norm(out.flatten(3), dim=-1).square_().sum(0)  # (heads, k)
                found.append(each if len(scale) == len(each) else each.mean(0, keepdim=True))
            total += torch.cat(found, dim=1) / (samples * target[0, 0].numel())
        return total

    return error


def heads_first(parts: Sequence[Tensor]) -> Tensor:
    """Arrange one side of a product, (N, heads, T, d) call by call, as (heads, values)."""
    return some_values(torch.cat([x.transpose(0, 1).flatten(1) for x in parts], dim=1))
