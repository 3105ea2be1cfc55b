"""Every product that a model computes while it runs: what it reads, and its multiply-accumulates.

Two watchers stand one above the other. `Recording` sits where Python calls torch: it knows the module and the operands.
The counter below it sees what torch's dispatcher is asked for, so a product that goes past the first shows there.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.contracts.side_branch import branch_names

_CONVOLUTIONS: dict[Any, str] = {functional.conv1d: "conv1d", functional.conv2d: "conv2d", functional.conv3d: "conv3d"}
_TRANSPOSED: dict[Any, str] = {functional.conv_transpose2d: "conv_transpose2d"}
_LINEAR: dict[Any, str] = {functional.linear: "linear"}
_MATMUL: dict[Any, str] = dict.fromkeys(
    (torch.matmul, torch.bmm, torch.mm, Tensor.matmul, Tensor.bmm, Tensor.mm, Tensor.__matmul__), "matmul"
)
_FUSED: dict[Any, str] = {functional.scaled_dot_product_attention: "attention"}
_PRODUCTS = _CONVOLUTIONS | _TRANSPOSED | _LINEAR | _MATMUL | _FUSED
_JOINT: Any = functional.multi_head_attention_forward
"""All of `nn.MultiheadAttention` in one call, within which no function of torch is met."""
_JOINT_SIGNATURE = inspect.signature(_JOINT)
_OPERAND_NAMES = ("input", "query", "weight", "key", "mat2", "other", "value")

UNCOUNTED = re.compile(
    r"mm(_|$)|mv(_|$)|mm_activation|conv(?!ert)|^_?v?dot$|^addr|^_trilinear|embedding_bag|dist(_forward)?$"
    r"|rnn|lstm|gru|(?<!upsample)_linear|^linear|attention|transformer|fft|matrix_exp"
    r"|(?<!re)solve|lstsq|inv_ex|^inverse|householder|ormqr|cholesky|linalg_(lu|qr|svd|eig)"
)
"""Operations below torch's Python functions that multiply matrices, found by name: torch's counter has no formula."""
NAMESPACES = frozenset({"aten", "prim", "prims", "profiler", "torchvision"})
"""Where torch's and torchvision's operations are; what others bring along may compute anything."""


@dataclass(frozen=True)
class Output:
    """What a quantizer put out; holding the tensor keeps its storage from being reused while the recording lasts."""

    name: str
    quantizer: Quantizer
    tensor: Tensor
    version: int
    grid: Tensor | None
    """The grid as it was then; None where it must not change and so can be asked for later."""


@dataclass(frozen=True)
class Side:
    """One side of a product: what it read, and which quantizer put that out, if nothing changed it in between."""

    module: str
    op: str
    role: str
    macs: int
    read: Tensor | None
    output: Output | None
    branch: bool = False
    """Whether it is in a side branch."""


class Interception(TorchFunctionMode, ABC):
    """Meets every product while a model runs, and what its quantizers put out."""

    def __init__(self, image_shape: torch.Size | None = None) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.scope = [""]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, then note the operands if it was a product."""
        kwargs = kwargs or {}
        if func is _JOINT:
            return self.joint_attention(args, kwargs)
        return self.product(func, args, kwargs) if func in _PRODUCTS else func(*args, **kwargs)

    def joint_attention(self, args: Any, kwargs: Any) -> Any:
        """Compute the attention of torch's own module, and note its products: one for Q, K and V of the same input."""
        result = _JOINT(*args, **kwargs)
        given = _JOINT_SIGNATURE.bind(*args, **kwargs).arguments
        query, key, value = given["query"], given["key"], given["value"]
        own = query.data_ptr() == key.data_ptr() == value.data_ptr() and given.get("in_proj_weight") is not None
        projected = [(query, 3)] if own else [(query, 1), (key, 1), (value, 1)]
        width = given["embed_dim_to_check"]
        for x, parts in projected:
            self.add("linear", x.numel() * parts * width, (x, "input"), (given.get("in_proj_weight"), "weight"))
        macs = query.numel() * key.shape[0]  # over all heads: tokens x tokens x width, for each image
        self.add("attention", macs, (query, "left"), (key, "right"))
        self.add("attention", macs, (None, "left"), (value, "right"))
        out = given["out_proj_weight"]
        self.add("linear", query.numel() // query.shape[-1] * out.numel(), (None, "input"), (out, "weight"))
        return result

    def product(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Compute a product, and note it."""
        result = func(*args, **kwargs)
        self._note_product(func, [*args, *(kwargs[name] for name in _OPERAND_NAMES if name in kwargs)], result)
        return result

    @abstractmethod
    def put_out(self, name: str, quantizer: Quantizer, output: Tensor) -> None:
        """Take in what a quantizer returned."""

    @abstractmethod
    def add(self, op: str, macs: int, *sides: tuple[Tensor | None, str]) -> None:
        """Take in a product: what each side read (None: nothing that could be quantised), and its role."""

    def _note_product(self, func: Any, tensors: list[Any], result: Tensor) -> None:
        op = _PRODUCTS[func]
        left, right = tensors[0], tensors[1]
        if func in _FUSED:  # softmax(Q K^T) never leaves the kernel, so it cannot have been quantised
            macs = left.numel() * right.shape[-2]
            self.add(op, macs, (left, "left"), (right, "right"))
            self.add(op, macs, (None, "left"), (tensors[2], "right"))
        elif func in _MATMUL:
            self.add(op, result.numel() * left.shape[-1], (left, "left"), (right, "right"))
        else:
            values = left.numel() if func in _TRANSPOSED else result.numel()
            role = "stem_input" if self._is_image(left, right) else "input"
            self.add(op, values * right[0].numel(), (left, role), (right, "weight"))

    def _is_image(self, x: Tensor, kernel: Tensor) -> bool:
        """Tell whether `x` has the image's shape, or what padding to whole patches makes of it."""
        image = self.image_shape
        if image is None or x.shape[:2] != image[:2]:
            return False
        padded = x.ndim == kernel.ndim and all(0 <= x.shape[i] - image[i] < kernel.shape[i] for i in range(2, x.ndim))
        return x.shape == image or padded


class Recording(Interception):
    """Keeps every product with what it read; see `recorded`."""

    def __init__(self, image_shape: torch.Size | None, *, dynamic: bool) -> None:
        super().__init__(image_shape)
        self.dynamic = dynamic
        self.branches: frozenset[str] = frozenset()
        """Names of the model's side branches."""
        self.outputs: dict[int, Output] = {}
        self.products: list[tuple[Side, ...]] = []
        self.counter = _Counter(self)

    def product(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Compute a product, note it, and count it where torch does not."""
        with self.counter.noted():
            return super().product(func, args, kwargs)

    def joint_attention(self, args: Any, kwargs: Any) -> Any:
        """Compute torch's own attention, note its products, and count those that torch does not."""
        before, known = self.counter.macs, len(self.products)
        with self.counter.noted():
            result = super().joint_attention(args, kwargs)
        noted = sum(sides[0].macs for sides in self.products[known:])
        self.counter.macs = max(self.counter.macs, before + noted)
        return result

    def put_out(self, name: str, quantizer: Quantizer, output: Tensor) -> None:
        """Remember what a quantizer returned."""
        grid = quantizer.grid().clone() if self.dynamic else None
        storage = output.untyped_storage().data_ptr()
        self.outputs[storage] = Output(name, quantizer, output, output._version, grid)

    def add(self, op: str, macs: int, *sides: tuple[Tensor | None, str]) -> None:
        """Keep a product."""
        self.counter.least(macs)
        self.products.append(tuple(self._side(x, op, role, macs) for x, role in sides))

    def _side(self, x: Tensor | None, op: str, role: str, macs: int) -> Side:
        output = None if x is None else self.outputs.get(x.untyped_storage().data_ptr())
        if output is not None and output.tensor._version != output.version:  # changed in place since
            output = None
        return Side(self.scope[-1], op, role, macs, x, output, self.scope[-1] in self.branches)


class _Counter(TorchDispatchMode):
    """Adds up torch's own operation counts, below every Python-level product, and names the products without one.

    torch's FlopCounterMode does the same and also attributes them to modules, which took most of the audit's time.
    """

    def __init__(self, recording: Recording) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0
        self.uncounted: dict[tuple[str, str], None] = {}
        self._recording = recording
        self._in_product = False
        self._before = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, then count."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = _formula(func)
        if formula is not None:
            try:
                self.macs += int(formula(*args, **kwargs, out_val=result)) // 2
            except TypeError:  # a formula for other arguments than this operation takes
                self._name(func)
        elif _is_uncounted(func):
            self._name(func)
        return result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Let torch call the method above as it is: its wrapper took as long again, and nothing is compiled here."""
        return False

    def _name(self, func: Any) -> None:
        if not self._in_product:
            self.uncounted[self._recording.scope[-1], str(func._schema.name).replace("aten::", "")] = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Inside, a product runs whose operands are noted: nothing in it hides."""
        self._in_product, self._before = True, self.macs
        try:
            yield
        finally:
            self._in_product = False

    def least(self, macs: int) -> None:
        """Count the noted product by what is known of it where torch had no formula for it."""
        if self.macs == self._before:
            self.macs += macs


@cache
def _formula(func: Any) -> Callable[..., Any] | None:
    return flop_registry.get(func._overloadpacket)


@cache
def _is_uncounted(func: Any) -> bool:
    """Tell whether an operation without a formula may compute a product."""
    namespace, _, name = str(func._schema.name).partition("::")
    return namespace not in NAMESPACES or UNCOUNTED.search(name) is not None


@contextmanager
def recorded(model: nn.Module, batch: Any, *, dynamic: bool = False) -> Iterator[Recording]:
    """Record every product of `model` inside, without gradients; `batch` is what it is about to be given.

    With `dynamic`, a quantizer's grid is taken as it is when the quantizer runs.
    """
    recording = Recording(batch.shape if isinstance(batch, Tensor) else None, dynamic=dynamic)
    recording.branches = branch_names(model)
    with torch.no_grad(), _attention_in_python(), hooked(model, recording), recording.counter, recording:
        yield recording


@contextmanager
def _attention_in_python() -> Iterator[None]:
    """Keep `nn.MultiheadAttention` from its one fused kernel, which hides its products from every watcher."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def hooked(model: nn.Module, interception: Interception) -> Iterator[None]:
    """Tell `interception` which module is running and what each quantizer puts out.

    Hooks for all modules at once: one for each took longer than a small model's forward pass.
    """
    names = {id(module): name for name, module in model.named_modules()}

    def enter(module: nn.Module, args: Any) -> None:
        name = names.get(id(module))
        if name is not None:
            interception.scope.append(name)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        name = names.get(id(module))
        if name is not None:
            interception.scope.pop()
            if isinstance(module, Quantizer) and isinstance(output, Tensor):
                interception.put_out(name, module, output)

    entering, leaving = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield
    finally:
        entering.remove()
        leaving.remove()
