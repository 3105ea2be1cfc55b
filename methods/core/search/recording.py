"""What passes through the operators of a float model on the calibration images, recorded a few operators at a time.

An operator is a linear layer, a convolution or an attention product. Its sides are called `first` (the weight, or the
left factor) and `second` (the input, or the right factor). Searches that look at all of an operator's output take
`Recording`s, one for each size of images; those that look at an evenly spread part of what it reads take its `Inputs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.contracts.reporting import report
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.operands import Convolution, Linear, MatMul, Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.model.watched_calls import ALL, watched_calls
from vitptq.methods.core.ranges.estimation import VALUES, evenly_spread
from vitptq.methods.core.sensitivity.fisher import GradientPoint, normalised, output_gradient_parts

Operator = Linear | Convolution | MatMul
Side = Literal["first", "second"]
SIDES: tuple[Side, Side] = ("first", "second")

MEGABYTE = 2**20
TOGETHER = 8
"""Operators whose inputs are recorded in one pass over the images."""
ROWS = 16_384
"""Rows of a linear layer's input that are kept, evenly spread over all images and positions."""
PAIRS = 2**24
"""Values of a product's larger side that are kept."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A linear layer on rows (R, in), without slots: what a pointwise operator is once its positions are in a row."""

    bias: Tensor | None


@dataclass(frozen=True)
class Recording:
    """What passes through one operator on the calibration images of one size, joined along the first axis."""

    operator: Operator | Rows
    first: Tensor
    """A weight is one tensor, whatever the images' size."""
    second: Tensor
    output: Tensor
    """The float output; (N, heads, T, C) of a product, (N, ..., C) of a linear layer, (N, C, H, W) of a convolution."""
    gradient: Tensor | None = None
    """dL/d output over its largest value, where a method asked for it and it says something."""


@dataclass(frozen=True)
class Inputs:
    """An evenly spread part of what one operator reads in float, call by call; calls may differ in size."""

    first: tuple[Tensor, ...]
    """The left sides of a product, (N, heads, T, d); empty for a layer."""
    second: tuple[Tensor, ...]
    """The right sides of a product; of a linear layer one tensor (rows, in), of a convolution (values, 1)."""


@dataclass(frozen=True)
class Use:
    """How an operator is used in a forward pass of one image."""

    operator: Operator
    calls: int
    size: int
    """Bytes of its inputs, its output and a gradient of that."""


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
            left -= images_of(part)
            yield part

    def forward(self, model: nn.Module, batch: Any) -> Tensor | tuple[Tensor, ...]:
        """Return the differentiable outputs."""
        return self.whole.forward(model, batch)


def images_of(batch: Any) -> int:
    """Return how many images a batch counts as."""
    return len(batch) if isinstance(batch, Tensor) else 1


def sides(operator: Operator) -> tuple[Operand, Operand]:
    """Return the slots of the first and of the second side."""
    if isinstance(operator, MatMul):
        return operator.left_operand, operator.right_operand
    return operator.weight_operand, operator.input_operand


@torch.no_grad()
def set_on_first_batch(
    net: PreparedModel, calibration: Calibration, quantizer: Callable[[str, Operator, Side, Tensor], Quantizer]
) -> None:
    """Set every operand to `quantizer(name, operator, side, x)`; `x` is what it reads, in float, on the first batch."""
    operators = {name: module for name, module in net.model.named_modules() if isinstance(module, Operator)}
    places = {slot: (name, side) for name, op in operators.items() for slot, side in zip(sides(op), SIDES, strict=True)}

    def watch(operand: Operand, x: Tensor) -> None:
        name, side = places[operand]
        operand.quantizer = quantizer(name, operators[name], side, x)

    net.switch(False)
    batch = next(iter(calibration.batches()))
    with watching(net.operands, watch):
        calibration.forward(net.model, batch)


def recordings(
    net: PreparedModel,
    calibration: Calibration,
    memory: int,
    *,
    gradient_point: GradientPoint | None = None,
    gradient_net: PreparedModel | None = None,
    without: Collection[str] = (),
) -> Iterator[tuple[str, Operator, tuple[Recording, ...]]]:
    """Yield (name, operator, a recording per size) in execution order, in float, of all operators but `without`.

    As many are recorded together as take about `memory` bytes. With `gradient_point`, their gradients are recorded too,
    on the operands of `gradient_net` (of `net` where it is None).
    """
    uses = {name: use for name, use in survey(net, calibration).items() if name not in without}
    images = sum(images_of(batch) for batch in calibration.batches())
    done = 0
    for names in _groups({name: use.size * images for name, use in uses.items()}, memory):
        report("scale search", done, len(uses))
        operators = [uses[name].operator for name in names]
        gradients: list[list[Tensor]] | None = None
        if gradient_point is not None:
            gradients = output_gradient_parts(
                gradient_net or net, calibration, operators, gradient_point, first_call=True
            )
        net.switch(False)
        for name, found in zip(names, record(net, calibration, operators, gradients), strict=True):
            yield name, uses[name].operator, found
        done += len(names)


def _groups(sizes: Mapping[str, int], memory: int) -> Iterator[list[str]]:
    """Yield names in order, together as far as `memory` allows."""
    group: list[str] = []
    for name, size in sizes.items():
        if group and sum(sizes[other] for other in group) + size > memory:
            yield group
            group = []
        group.append(name)
    yield group


def recorded_inputs(
    net: PreparedModel, calibration: Calibration, only: Collection[nn.Module] | None = None
) -> Iterator[tuple[str, Operator, Inputs]]:
    """Yield (name, operator, what it reads in float) in execution order, of all operators or `only` of some."""
    uses = survey(net, calibration)
    names = [name for name, use in uses.items() if only is None or use.operator in only]
    batches = sum(1 for _ in calibration.batches())
    for start in range(0, len(names), TOGETHER):
        some = {name: uses[name] for name in names[start : start + TOGETHER]}
        calls: dict[nn.Module, float] = {use.operator: use.calls or ALL for use in some.values()}
        net.switch(False)
        seen = _record(net, calibration, calls, lambda module, args, output: _thinned(module, args, batches))
        for number, (name, use) in enumerate(some.items(), start):
            report("scale search", number, len(names))
            yield name, use.operator, _inputs(use.operator, seen.pop(use.operator))


def survey(net: PreparedModel, calibration: Calibration) -> dict[str, Use]:
    """Return how each operator is used, by name, in execution order on the first image; each has to run on some image.

    Operators that run on another image only come last, with no calls.
    """
    names = {module: name for name, module in net.model.named_modules() if isinstance(module, Operator)}
    calls: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    missing = set(names.values())

    def take(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        name = names[module]  # type: ignore[index]  # only operators are watched
        calls[name] += 1
        sizes[name] += sum(x.numel() * x.element_size() for x in (*args, output, output))
        missing.discard(name)

    net.switch(False)
    _record(net, FirstImages(calibration, 1), dict.fromkeys(names, ALL), take)
    first = dict(calls)
    if missing:  # rare: only now look at all images
        _record(net, calibration, dict.fromkeys(names, ALL), take)
    if missing:
        raise Unsupported(f"{min(missing)} did not run on the calibration set, so it has no range")
    return {name: Use(net.model.get_submodule(name), first.get(name, 0), sizes[name]) for name in calls}  # type: ignore[arg-type]


def record(
    net: PreparedModel,
    calibration: Calibration,
    operators: Sequence[Operator],
    gradients: Sequence[Sequence[Tensor]] | None = None,
) -> list[tuple[Recording, ...]]:
    """Return what passes through each operator in one pass over the images, with the model's operands as they are.

    The sides are recorded in front of their slots, that is, before they are quantised; of an operator that runs several
    times per batch, the first call. `gradients` are each operator's, in the images' order, in batches of any length.
    """
    seen = _record(net, calibration, dict.fromkeys(operators, 1), lambda module, args, output: (*args, output))
    known: Sequence[Sequence[Tensor] | None] = gradients or [None] * len(operators)
    return [_by_size(operator, seen[operator], parts) for operator, parts in zip(operators, known, strict=True)]


def _by_size(
    operator: Operator, calls: Sequence[tuple[Tensor, ...]], gradients: Sequence[Tensor] | None
) -> tuple[Recording, ...]:
    """Return the calls (*inputs, output) of an operator, those of one size joined."""
    known: Sequence[Tensor | None] = [None] * len(calls)
    if gradients is not None:
        known = normalised(_cut([output for *_, output in calls], gradients)) or known
    groups: dict[tuple[torch.Size, ...], list[int]] = {}
    for number, call in enumerate(calls):
        groups.setdefault(tuple(x.shape[1:] for x in call), []).append(number)
    weight = None if isinstance(operator, MatMul) else operator.weight.detach()
    found = []
    for numbers in groups.values():
        *inputs, output = (torch.cat(parts) for parts in zip(*(calls[i] for i in numbers), strict=True))
        parts = [part for i in numbers if (part := known[i]) is not None]
        gradient = torch.cat(parts) if parts else None
        found.append(Recording(operator, inputs[0] if weight is None else weight, inputs[-1], output, gradient))
    return tuple(found)


def _cut(outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return gradients in batches as long as those of the outputs that they belong to."""
    left = iter(gradients)
    found = []
    for output in outputs:
        parts: list[Tensor] = []
        while (missing := len(output) - sum(map(len, parts))) > 0 and (part := next(left, None)) is not None:
            parts.append(part)
        if missing:
            raise Unsupported(f"an operator puts out {len(output)} rows in float and others where G is taken")
        found.append(torch.cat(parts))
    return found


@torch.no_grad()
def _record(
    net: PreparedModel, calibration: Calibration, calls: Mapping[nn.Module, float], take: Callable[..., Any]
) -> dict[nn.Module, list[Any]]:
    """Return `take(module, args, output)` of the calls of some modules, so many calls per batch."""
    seen: dict[nn.Module, list[Any]] = {module: [] for module in calls}

    def see(module: nn.Module, args: tuple[Tensor, ...], kwargs: Any, output: Tensor) -> None:
        if all(x.numel() for x in args):  # a detector without proposals runs its heads on nothing
            seen[module].append(take(module, args, output))

    for batch in calibration.batches():
        with watched_calls(calls, see):
            calibration.forward(net.model, batch)
    return seen


def _thinned(module: nn.Module, args: tuple[Tensor, ...], batches: int) -> tuple[Tensor, ...]:
    """Return an evenly spread part of what one call of a module reads."""
    if isinstance(module, MatMul):
        limit = max(1, PAIRS // batches * len(args[0]) // max(x.numel() for x in args))
        return tuple(x[evenly_spread(len(x), limit, x.device)].clone() for x in args)
    linear = isinstance(module, Linear)
    rows = args[0].reshape(-1, args[0].shape[-1] if linear else 1)
    return (rows[evenly_spread(len(rows), max(1, (ROWS if linear else VALUES) // batches), rows.device)],)


def _inputs(operator: Operator, calls: list[tuple[Tensor, ...]]) -> Inputs:
    if isinstance(operator, MatMul):
        left, right = zip(*calls, strict=True)
        return Inputs(left, right)
    return Inputs((), (torch.cat([x for (x,) in calls]),))


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Return what the batches gave, joined along the first axis, or say that their sizes differ."""
    shapes = dict.fromkeys(tuple(part.shape[1:]) for part in parts)
    if len(shapes) > 1:
        sizes = " and ".join(str(shape) for shape in list(shapes)[:2])
        raise Unsupported(
            f"the calibration images differ in size (one layer sees {sizes}), and a bridge block is searched on images "
            "of one size; PTQ4ViT, RepQ-ViT and the reconstruction methods take images of any size"
        )
    return torch.cat(list(parts))


def all_values(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Return tensors of different sizes as one that is arranged otherwise, but along `axis` (1 or -1) as they are."""
    if all(part is parts[0] for part in parts):
        return parts[0]
    if axis == -1:
        return torch.cat([part.flatten(end_dim=-2) for part in parts])
    return torch.cat([part.transpose(0, 1).flatten(1) for part in parts], dim=1)[None, ..., None]
