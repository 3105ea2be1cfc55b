"""The audit: run the quantised model once and look at both sides of every product.

Each operand must be what a quantizer put out, unchanged since, with all values on that quantizer's grid, and the grid
must have at most 2^bits values. torch's own counter says how many multiply-accumulates there are, so a product that the
audit does not see counts as float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.results import audit_rules
from vitptq.bench.results.record import Audit, OperandAudit

Forward = Callable[[nn.Module, Any], Any]
ON_GRID = 1e-3
"""Largest accepted distance from the grid, as a share of the grid's smallest step."""
ROUNDING = 8
"""Largest accepted distance from the grid in units of the last place of the largest value: rounding, nothing more."""

_CONVOLUTIONS: dict[Any, str] = {functional.conv1d: "conv1d", functional.conv2d: "conv2d", functional.conv3d: "conv3d"}
_TRANSPOSED: dict[Any, str] = {functional.conv_transpose2d: "conv_transpose2d"}
_LINEAR: dict[Any, str] = {functional.linear: "linear"}
_MATMUL: dict[Any, str] = dict.fromkeys(
    (torch.matmul, torch.bmm, torch.mm, Tensor.matmul, Tensor.bmm, Tensor.mm, Tensor.__matmul__), "matmul"
)
_FUSED: dict[Any, str] = {functional.scaled_dot_product_attention: "attention"}
_PRODUCTS = _CONVOLUTIONS | _TRANSPOSED | _LINEAR | _MATMUL | _FUSED


def audit(model: nn.Module, bits: BitSpec, example: Any, forward: Forward, *, float_macs: int | None = None) -> Audit:
    """Run `forward(model, example)` once and report on every operand, against what `bits` demands.

    `example` is a batch of one image (a tensor, or whatever the task feeds to the model). `float_macs` are those of the
    float model: products that are gone from the quantised one were moved to where the audit does not look.
    """
    watch = _Watch(image_shape=example.shape if isinstance(example, Tensor) else None)
    with torch.no_grad(), _hooked(model, watch), _Counter() as counter, watch:  # type: ignore[no-untyped-call]
        forward(model, example)
    counted = counter.flops // 2
    # only now: inspecting under the counter would send thousands of small operations through it
    products = [tuple(_report(look) for look in sides) for sides in watch.products]
    seen = sum(sides[0].macs for sides in products)
    sides = [side for pair in products for side in pair]
    violations = [] if bits.is_float else [v for side in sides for v in audit_rules.operand_violations(side, bits)]
    total = max(counted, seen, float_macs or 0)
    if not bits.is_float:
        violations += audit_rules.balance(total, seen, float_macs or total)
    return Audit(
        operands=tuple(sides),
        macs=total,
        quantised_macs=audit_rules.quantised_macs(sides, bits),
        float_operands=tuple(f"{side.module}: {side.role}" for side in sides if side.bits is None),
        violations=tuple(dict.fromkeys(violations)),
    )


@contextmanager
def _hooked(model: nn.Module, watch: _Watch) -> Iterator[None]:
    """Tell `watch` which module is running and what each quantizer puts out."""
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(partial(_enter, watch, name)))
        handles.append(module.register_forward_hook(partial(_leave, watch, name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _enter(watch: _Watch, name: str, module: nn.Module, args: Any) -> None:
    watch.scope.append(name)


def _leave(watch: _Watch, name: str, module: nn.Module, args: Any, output: Any) -> None:
    watch.scope.pop()
    if isinstance(module, Quantizer) and isinstance(output, Tensor):
        watch.outputs[output.untyped_storage().data_ptr()] = _Seen(module, output, output._version)


@dataclass(frozen=True)
class _Seen:
    """What a quantizer put out; holding the tensor keeps its storage from being reused while the audit runs."""

    quantizer: Quantizer
    output: Tensor
    version: int


@dataclass(frozen=True)
class _Look:
    """One side of a product, as it was met: what put it out, if a quantizer did and nothing changed it since."""

    module: str
    op: str
    role: str
    macs: int
    seen: _Seen | None


class _Counter(TorchDispatchMode):
    """Adds up torch's own operation counts, below every Python-level product: what hides from `_Watch` shows here.

    torch's FlopCounterMode does the same and also attributes them to modules, which took most of the audit's time.
    """

    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, then count."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=result))
        return result


class _Watch(TorchFunctionMode):
    """Intercepts every product and looks at its operands."""

    def __init__(self, image_shape: torch.Size | None) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.scope = [""]
        self.outputs: dict[int, _Seen] = {}
        self.products: list[tuple[_Look, ...]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, then note the operands if it was a product."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in _PRODUCTS:
            tensors = [*args, *(kwargs[name] for name in _OPERAND_NAMES if name in kwargs)]
            self._note(func, tensors, result)
        return result

    def _note(self, func: Any, tensors: list[Any], result: Tensor) -> None:
        op = _PRODUCTS[func]
        left, right = tensors[0], tensors[1]
        if func in _FUSED:  # softmax(Q K^T) never leaves the kernel, so it cannot have been quantised
            macs = left.numel() * right.shape[-2]
            self._add(op, macs, (left, "left"), (right, "right"))
            self._add(op, macs, (None, "left"), (tensors[2], "right"))
        elif func in _MATMUL:
            self._add(op, result.numel() * left.shape[-1], (left, "left"), (right, "right"))
        else:
            values = left.numel() if func in _TRANSPOSED else result.numel()
            role = "stem_input" if self._is_image(left, right) else "input"
            self._add(op, values * right[0].numel(), (left, role), (right, "weight"))

    def _is_image(self, x: Tensor, kernel: Tensor) -> bool:
        """Tell whether `x` has the image's shape, or what padding to whole patches makes of it."""
        image = self.image_shape
        if image is None or x.shape[:2] != image[:2]:
            return False
        padded = x.ndim == kernel.ndim and all(0 <= x.shape[i] - image[i] < kernel.shape[i] for i in range(2, x.ndim))
        return x.shape == image or padded

    def _add(self, op: str, macs: int, *sides: tuple[Tensor | None, str]) -> None:
        self.products.append(tuple(self._look(x, op, role, macs) for x, role in sides))

    def _look(self, x: Tensor | None, op: str, role: str, macs: int) -> _Look:
        seen = None if x is None else self.outputs.get(x.untyped_storage().data_ptr())
        if seen is not None and seen.output._version != seen.version:  # changed in place since
            seen = None
        return _Look(self.scope[-1], op, role, macs, seen)


def _report(look: _Look) -> OperandAudit:
    """Inspect the values of one side."""
    where = OperandAudit(module=look.module, op=look.op, role=look.role, bits=None, macs=look.macs)
    if look.seen is None:
        return where
    quantizer, output = look.seen.quantizer, look.seen.output
    grid = quantizer.grid().double()
    levels, off_grid = _inspect(quantizer.groups(output), grid)
    off_grid |= len(grid) not in (1, *output.shape)  # groups lie along an axis, or anything would be a grid
    found = {"bits": quantizer.bits, "granularity": quantizer.granularity, "quantizer": type(quantizer).__name__}
    return where.model_copy(update=found | {"levels": levels, "grid": _distinct(grid), "off_grid": off_grid})


_OPERAND_NAMES = ("input", "query", "weight", "key", "mat2", "other", "value")


def _distinct(rows: Tensor) -> int:
    """Return the largest number of distinct values in an ascending row."""
    return int((rows.diff(dim=1) != 0).sum(dim=1).max()) + 1


def _inspect(values: Tensor, grid: Tensor) -> tuple[int, bool]:
    """Return the largest number of grid values used by a group, and whether any value is off the grid.

    `values` is (groups, n), `grid` (groups, levels) ascending, in float64. Looking the values up is much cheaper than
    sorting them.
    """
    if len(grid) != len(values):
        return 0, True
    if not values.numel():  # the heads of a detector that proposes nothing
        return 0, False
    last_place = torch.finfo(values.dtype).eps
    values = values.double()
    steps = torch.cat([grid.diff(dim=1), torch.full_like(grid[:, :1], torch.inf)], dim=1)
    smallest = steps.where(steps > 0, torch.inf).amin(dim=1, keepdim=True)
    slack = ROUNDING * last_place * values.abs().amax(dim=1, keepdim=True)
    middles = (grid[:, 1:] + grid[:, :-1]) / 2
    nearest = torch.searchsorted(middles, values.contiguous())  # (groups, n)
    near = (grid.gather(1, nearest) - values).abs() <= torch.minimum(ON_GRID * smallest, slack)
    used = torch.zeros(grid.shape, dtype=torch.bool, device=grid.device).scatter_(1, nearest, True)
    return int(used.sum(dim=1).max()), not bool(near.all())  # a NaN is near nothing
