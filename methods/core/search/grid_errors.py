"""The error of grids at the output of linear layers and attention products, as AdaLog and APHQ-ViT search them.

Everything else is in float. The error is that of the operator's output, ||W^ X^ - W X||^2, computed from the
differences X^ - X and W^ - W, so that nothing cancels at 8 bits. Only those candidates that a search goes on from are
judged to the end (`leading_sums`).
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
from vitptq.methods.core.search.leading_sums import PARTS, PartError, leading_sums
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

    def error(scale: Tensor, zero: Tensor, wanted: int | None = None) -> Tensor:
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
    width = max(square.shape)
    size = _part(len(rows), _together(width, rows))

    def part(x: Tensor, slope: Tensor, rest: Tensor) -> PartError:
        on_grids, constant = kind(x[None]), rest.square().sum() if wide else 0.0

        def one(e: Tensor) -> Tensor:
            if wide:
                return (e @ square).add_(slope, alpha=2).mul_(e).sum((-1, -2)).add_(constant)
            return (e @ square).add_(slope).square_().sum((-1, -2))

        def error(scale: Tensor, zero: Tensor) -> Tensor:
            at_once = _together(len(x) * width, x)
            pairs = zip(*(values[0, :, None, None].split(at_once) for values in (scale, zero)), strict=True)
            return torch.cat([one(on_grids(s, z).sub_(x)) for s, z in pairs])[None]

        return error

    parts = [part(*each) for each in zip(rows.split(size), slope.split(size), rest.split(size), strict=True)]

    def error(scale: Tensor, zero: Tensor, wanted: int | None = None) -> Tensor:
        return leading_sums(parts, scale, zero, wanted) / len(rows)  # (1, K)

    return error


def _part(length: int, most: int) -> int:
    """Return the length of parts that are at most so long and, where that leaves enough, a few in number."""
    return max(1, min(most, -(-length // PARTS)))


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
    samples = sum(len(x) for x in inputs.first)

    def part(x: Tensor, y: Tensor, target: Tensor) -> PartError:
        on_grids, target = kind(x[:, :, None]), target[:, :, None]
        at_once = _together(len(x) * max(x[0].numel(), target[0].numel()), target)

        def error(scale: Tensor, zero: Tensor) -> Tensor:
            given = rounded(other.quantizer, y)
            found = []
            pairs = (values[None, :, :, None, None].split(at_once, dim=2) for values in (scale, zero))
            for s, z in zip(*pairs, strict=True):
                grids = on_grids(s, z)  # (N, heads, k, rows, columns)
                out = (grids.flatten(2, 3) @ given).view(*grids.shape[:4], -1).sub_(target)
                each = torch.linalg.vector_norm(out.flatten(3), dim=-1).square_().sum(0)  # (heads, k)
                found.append(each if len(scale) == len(each) else each.mean(0, keepdim=True))
            return torch.cat(found, dim=1) / (samples * target[0, 0].numel())

        return error

    parts: list[PartError] = []
    for first, second in zip(inputs.first, inputs.second, strict=True):
        varied, fixed = _stackable(product, first, second, left)
        target = varied @ fixed
        size = max(varied[0].numel(), target[0].numel())
        length = _part(len(target), _together(STACKED * size, target))
        parts += [part(*each) for each in zip(*(z.split(length) for z in (varied, fixed, target)), strict=True)]

    @torch.no_grad()
    def error(scale: Tensor, zero: Tensor, wanted: int | None = None) -> Tensor:
        return leading_sums(parts, scale, zero, wanted)  # (groups, K)

    return error


def heads_first(parts: Sequence[Tensor]) -> Tensor:
    """Arrange one side of a product, (N, heads, T, d) call by call, as (heads, values)."""
    return some_values(torch.cat([x.transpose(0, 1).flatten(1) for x in parts], dim=1))
