"""Grids by the output error of linear layers and attention products, as AdaLog and APHQ-ViT search them.

Everything else is in float while one operator is searched: what the operators read is recorded from the float model.
The error is that of the operator's output, ||W^ X^ - W X||^2, computed from the differences X^ - X and W^ - W, so that
nothing cancels at 8 bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.contracts.reporting import report
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.operands import Conv2d, ConvTranspose2d, Layer, Linear, MatMul
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.quantizers.uniform import OnGrids, Uniform
from vitptq.methods.core.ranges.estimation import VALUES, evenly_spread, some_values
from vitptq.methods.core.search.progressive import Error
from vitptq.methods.core.search.recording import StopForward

ROWS = 16_384
"""Rows of a linear layer's input that a search looks at, evenly spread over all images and positions."""
PAIRS = 2**24
"""Values of a product's larger side that a search looks at."""
TOGETHER = 8
"""Operators recorded in one pass over the images."""
STEP = {"cpu": 2**18, "cuda": 2**26}
"""Values of the largest tensor of a step: on a CPU what its cache holds, which is several times faster."""

STACKED = 8
"""Grids of a product's side that are computed as one product, where so many fit a step."""

Operator = Layer | MatMul
Prepare = Callable[[Tensor], OnGrids]
"""A part of an operand to what puts it on grids; what does not depend on the grid is computed here."""


class FirstImages(Calibration):
    """The first `count` images of a calibration set."""

    def __init__(self, whole: Calibration, count: int) -> None:
        self.whole, self.count, self.seed = whole, count, whole.seed
        self.input, self.device, self.digest = whole.input, whole.device, whole.digest and f"{whole.digest}:{count}"

    def batches(self) -> Iterator[Any]:
        """Yield the batches up to that many images; a batch that is no tensor counts as one."""
        left = self.count
        for batch in self.whole.batches():
            if left <= 0:
                return
            part = batch[:left] if isinstance(batch, Tensor) else batch
            left -= len(part) if isinstance(part, Tensor) else 1
            yield part

    def forward(self, model: nn.Module, batch: Any) -> Tensor | tuple[Tensor, ...]:
        """Return the differentiable outputs."""
        return self.whole.forward(model, batch)


@dataclass(frozen=True)
class Reads:
    """What one operator reads in float: for a layer (rows, in), for a product both sides, (N, heads, T, d)."""

    first: tuple[Tensor, ...]
    """The left sides of a product, call by call; empty for a layer."""
    second: tuple[Tensor, ...]
    """The right sides of a product, call by call; the input of a layer, as one tensor."""


def each_operator(net: PreparedModel, calibration: Calibration) -> Iterator[tuple[str, Operator, Reads]]:
    """Yield (name, operator, what it reads) in execution order; operators are recorded a few at a time."""
    calls = calls_in_a_pass(net, calibration)
    names = list(calls)
    for done, (name, operator, reads) in enumerate(each_recorded(net, calibration, names, calls)):
        report("scale search", done, len(names))
        yield name, operator, reads


def each_recorded(
    net: PreparedModel, calibration: Calibration, names: Sequence[str], calls: Mapping[str, int]
) -> Iterator[tuple[str, Operator, Reads]]:
    """Yield (name, operator, what it reads in float) for operators named in execution order, recorded a few at a time.

    `calls` are those of `calls_in_a_pass`: a pass over the images ends where the last of a few has run.
    """
    for start in range(0, len(names), TOGETHER):
        some = {name: net.model.get_submodule(name) for name in names[start : start + TOGETHER]}
        found = _recorded(net, calibration, some, calls)  # type: ignore[arg-type]
        for name, operator in some.items():
            yield name, operator, found.pop(name)  # type: ignore[misc]


def calls_in_a_pass(net: PreparedModel, calibration: Calibration) -> dict[str, int]:
    """Return how often each operator runs on the first image, in execution order; all that have slots must run.

    Operators that run on another image only come last, with no calls.
    """
    names: dict[nn.Module, str] = {m: n for n, m in net.model.named_modules() if isinstance(m, Layer | MatMul)}

    calls: Counter[str] = Counter()
    missing = set(names.values())

    def enter(module: Any, args: Any) -> None:
        calls[names[module]] += 1
        if all(x.numel() for x in args):  # a detector without proposals runs its heads on nothing
            missing.discard(names[module])

    _hooked(net, FirstImages(calibration, 1), list(names), enter)
    first = dict(calls)
    if missing:  # rare: only now look at all images
        _hooked(net, calibration, list(names), enter)
    if missing:
        raise Unsupported(f"{min(missing)} did not run on the calibration set, so it has no range")
    return dict.fromkeys(calls, 0) | first


@torch.no_grad()
def _hooked(
    net: PreparedModel,
    calibration: Calibration,
    modules: Sequence[nn.Module],
    enter: Callable[[Any, Any], None],
    enough: int = 0,
) -> None:
    """Run the float model with a hook in front of some modules; with `enough`, a pass ends after so many calls."""
    left = 0

    def hook(module: Any, args: Any) -> None:
        nonlocal left
        enter(module, args)
        left -= 1
        if left == 0:
            raise StopForward

    net.switch(False)
    handles = [module.register_forward_pre_hook(hook) for module in modules]
    try:
        for batch in calibration.batches():
            left = enough
            with suppress(StopForward):
                calibration.forward(net.model, batch)
    finally:
        for handle in handles:
            handle.remove()


def _recorded(
    net: PreparedModel, calibration: Calibration, operators: Mapping[str, Operator], calls: Mapping[str, int]
) -> dict[str, Reads]:
    """Return what some operators read in float, thinned evenly."""
    read: dict[nn.Module, list[tuple[Tensor, ...]]] = {module: [] for module in operators.values()}
    batches = sum(1 for _ in calibration.batches())
    known = all(calls[name] for name in operators)

    def enter(module: Any, args: tuple[Tensor, ...]) -> None:
        if all(x.numel() for x in args):
            read[module].append(_thinned(module, args, batches))

    enough = sum(calls[name] for name in operators) if known else 0
    _hooked(net, calibration, list(operators.values()), enter, enough)
    return {name: _joined(module, read[module]) for name, module in operators.items()}


def _thinned(module: Operator, args: tuple[Tensor, ...], batches: int) -> tuple[Tensor, ...]:
    """Return an evenly spread part of what one call of a module reads."""
    if isinstance(module, MatMul):
        limit = max(1, PAIRS // batches * len(args[0]) // max(x.numel() for x in args))
        return tuple(x[evenly_spread(len(x), limit, x.device)].clone() for x in args)
    if isinstance(module, Linear):
        rows = args[0].reshape(-1, args[0].shape[-1])
        return (rows[evenly_spread(len(rows), max(1, ROWS // batches), rows.device)],)
    values = args[0].reshape(-1, 1)
    return (values[evenly_spread(len(values), max(1, VALUES // batches), values.device)],)


def _joined(module: Operator, calls: list[tuple[Tensor, ...]]) -> Reads:
    if isinstance(module, MatMul):
        left, right = zip(*calls, strict=True)
        return Reads(left, right)
    return Reads((), (torch.cat([x for (x,) in calls]),))


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
    bits = layer.weight_operand.bits

    def error(scale: Tensor, zero: Tensor) -> Tensor:
        found = []
        at_once = _together(scale.shape[1] * weight.shape[1], weight)
        for part in torch.arange(len(weight), device=weight.device).split(at_once):
            d = affine(weight[part, None, :], scale[part, :, None], zero[part, :, None], bits) - weight[part, None, :]
            value = ((d @ second) * d).sum(-1) + 2 * (d * slope.T[part, None, :]).sum(-1)
            found.append(value + constant[part, None])
        return torch.cat(found)  # (out, K)

    return error


def _together(size: int, like: Tensor) -> int:
    """Return how many candidates (or rows) of `size` values each are computed at once."""
    return max(1, STEP.get(like.device.type, STEP["cpu"]) // size)


def affine(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Return `x` on unsigned uniform grids that broadcast against it, as `Uniform` puts it out."""
    codes = (x * scale.reciprocal()).round_()
    torch.maximum(codes, -zero, out=codes)
    torch.minimum(codes, 2**bits - 1 - zero, out=codes)
    return codes.mul_(scale)


def uniform_grids(bits: int) -> Prepare:
    """Return what prepares a tensor for uniform grids."""
    return lambda x: partial(affine, x, bits=bits)


def input_error(layer: Linear, rows: Tensor, prepare: Prepare) -> Error:
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
    parts = [(x, prepare(x[None]), c) for x, c in zip(rows.split(size), slope.split(size), strict=True)]

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


def side_error(product: MatMul, reads: Reads, *, left: bool, prepare: Prepare | None = None) -> Error:
    """Return the output error of grids for one side of a product, at its other side as it is quantised now.

    Uniform grids per head: `scale` and `zero` are (heads, K). With `prepare`, one group for all heads.
    """
    operand, other = (product.left_operand, product.right_operand)[:: 1 if left else -1]
    prepare = prepare or uniform_grids(operand.bits)
    parts = []
    for first, second in zip(reads.first, reads.second, strict=True):
        varied, fixed = _stackable(product, first, second, left)
        target = varied @ fixed
        size = max(varied[0].numel(), target[0].numel())
        for x, y, t in zip(*(z.split(_together(STACKED * size, target)) for z in (varied, fixed, target)), strict=True):
            parts.append((prepare(x[:, :, None]), y, t[:, :, None], _together(len(x) * size, t)))
    samples = sum(len(x) for x in reads.first)

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


def per_head(bits: int, scale: Tensor, zero: Tensor) -> Uniform:
    """Return the quantizer of one side of a product with a grid per head, `scale` and `zero` (heads,)."""
    return Uniform(bits, scale, zero, axis=1, granularity="head")


def per_row(layer: Conv2d | ConvTranspose2d | Linear, scale: Tensor, zero: Tensor) -> Uniform:
    """Return the quantizer of a layer's weight with a grid per output channel."""
    slot = layer.weight_operand
    return Uniform(slot.bits, scale, zero, axis=slot.channel_axis, granularity="channel")
