"""Quantizers: the modules through which everything that is quantised goes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar

from torch import Tensor, nn


class Quantizer(nn.Module, ABC):
    """Tensor in, tensor on the grid out. Everything that is quantised goes through one of these, so it can be audited.

    While the harness evaluates (`kept_weights`), a parameter of the model is quantised once and kept.
    """

    bits: int
    float_values: ClassVar[int] = 0
    """How many values of each group stay in float; they are in `grid` beside the 2^bits. The audit allows one."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` rounded to the grid (same shape)."""
        kept = _kept.get()
        if kept is None or not isinstance(x, nn.Parameter):
            return self.quantise(x)
        key = (id(self), x.data_ptr())
        if key not in kept:
            kept[key] = self.quantise(x)
        return kept[key]

    @abstractmethod
    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` rounded to the grid, with a straight-through gradient where gradients are on."""

    @abstractmethod
    def grid(self) -> Tensor:
        """Return every representable value, ascending, shape (groups, levels)."""

    @abstractmethod
    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (groups, values), so that row g holds what row g of `grid()` must contain."""

    @property
    @abstractmethod
    def granularity(self) -> str:
        """Name what shares one grid: tensor, channel, head or token."""


_kept: ContextVar[dict[tuple[int, int], Tensor] | None] = ContextVar("kept weights", default=None)
"""By quantizer and parameter, while both are alive."""


@contextmanager
def kept_weights() -> Iterator[None]:
    """Quantise each weight only once inside: for evaluation, where no weight and no quantizer changes any more.

    One inside another keeps its own weights, and leaves those of the outer one.
    """
    outer = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(outer)


@contextmanager
def with_kept_weights(model: nn.Module) -> Iterator[None]:
    """Let quantizers that have one weight put out, inside, what `kept_weights` keeps of it: for compiled evaluations.

    What a compiler traces then has neither the look-up nor the rounding of a weight.
    """
    kept = _kept.get() or {}
    owners = [owner for owner, _ in kept]
    found = {owner: value for (owner, _), value in kept.items() if owners.count(owner) == 1}
    quantizers = [module for module in model.modules() if isinstance(module, Quantizer)]
    for quantizer in quantizers:
        own = _Constant(found[id(quantizer)]) if id(quantizer) in found else quantizer.quantise
        vars(quantizer)["forward"] = own
    try:
        yield
    finally:
        for quantizer in quantizers:
            del vars(quantizer)["forward"]


class _Constant:
    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __call__(self, x: Tensor) -> Tensor:
        return self.value
