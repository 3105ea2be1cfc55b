"""What the slot in front of one side of a product may become: uniform grids by their scale, and what shares one.

Other kinds of grids (the twin grids of PTQ4ViT) are `Candidates` as well; they are beside the method that has them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.operands import Convolution, MatMul
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, Granularity, Uniform, on_grid
from vitptq.methods.core.ranges.estimation import asymmetric_parameters
from vitptq.methods.core.search.integer_products import BYTE_BITS, Codes
from vitptq.methods.core.search.objective import group_count
from vitptq.methods.core.search.recording import Operator, Side


class Candidates(ABC):
    """The quantizers that one slot may get."""

    count: int
    judged: Tensor | None = None
    """The group of each output channel, where groups of the side's values choose for themselves; None is one group."""
    by_head: bool = False
    """Whether the heads of a product choose for themselves."""
    other_in_float: bool = False
    """Whether the other side of the product stays in float while these are compared."""

    @abstractmethod
    def __call__(self, x: Tensor, places: Tensor) -> Tensor:
        """Return the quantised candidates `places` (k,), on the CPU, of x, shape (k, *x.shape).

        `x` may be as `in_rows` gives it.
        """

    def codes(self, x: Tensor, places: Tensor) -> tuple[Codes, ...]:
        """Return terms, stacked along `places`, whose sum is `self(x, places)`; none where there is no such form."""
        return ()

    @abstractmethod
    def quantizer(self, place: Tensor) -> Quantizer:
        """Return the quantizer of the chosen candidate, `place` (groups,), or (1,) for all groups, on the CPU."""

    @abstractmethod
    def default(self) -> Quantizer:
        """Return the quantizer before any search."""


@dataclass(frozen=True)
class Grouping:
    """Which values of one side share a scale: all, each head, each channel, or the rows of q, k and v."""

    axis: int | None
    groups: Tensor | None
    """The group of each index along `axis`."""
    granularity: Granularity
    judged: Tensor | None = None
    """The group of each output channel, where a group has output channels of its own."""

    def extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the largest value of each group, (groups,)."""
        if self.axis is None or self.groups is None:
            low, high = x.aminmax()
            return low.reshape(1), high.reshape(1)
        low, high = x.movedim(self.axis, 0).flatten(1).aminmax(dim=1)
        blank = low.new_zeros(group_count(self.groups))
        return (
            blank.scatter_reduce(0, self.groups, low, "amin", include_self=False),
            blank.scatter_reduce(0, self.groups, high, "amax", include_self=False),
        )

    def starts(self, x: Tensor, bits: int) -> Tensor:
        """Return D0 = max|x| / (2^(b-1) - 0.5) per group, shape (groups,) (PTQ4ViT)."""
        low, high = self.extremes(x)
        scale: Tensor = (torch.maximum(-low, high) / (2 ** (bits - 1) - 0.5)).clamp_min(SCALE_FLOOR)
        return scale

    def spread(self, values: Tensor) -> Tensor:
        """Return values (..., groups) index by index of the axis."""
        return values if self.groups is None else values[..., self.groups]


def whole_tensor() -> Grouping:
    """Return the one scale per tensor."""
    return Grouping(None, None, "tensor")


def by_index(x: Tensor, axis: int, *, judged: bool = False) -> Grouping:
    """Return a scale per index of an axis of x; with `judged`, each has the output channel of the same number."""
    groups = torch.arange(x.shape[axis], device=x.device)
    return Grouping(axis, groups, "channel", groups if judged else None)


def default_grouping(net: PreparedModel, name: str, operator: Operator, side: Side, x: Tensor) -> Grouping:
    """Return PTQ4ViT's granularity: products per head, convolution weights per output channel, the rest per tensor.

    The rows of a joint query-key-value layer have three scales.
    """
    if isinstance(operator, MatMul):
        return Grouping(1, torch.arange(x.shape[1], device=x.device), "head")
    if side == "second":
        return whole_tensor()
    if isinstance(operator, Convolution):
        return by_index(x, 0, judged=True)
    rows = qkv_rows(net, name, len(x))
    return whole_tensor() if rows is None else Grouping(0, rows.to(x.device), "channel", rows.to(x.device))


def qkv_rows(net: PreparedModel, name: str, rows: int) -> Tensor | None:
    """Return which of query, key and value each row of a layer belongs to, None where it is not a joint layer."""
    parent_name, _, own = name.rpartition(".")
    if own != "qkv":
        return None
    parent = net.model.get_submodule(parent_name)
    told: Callable[[], Tensor] | None = getattr(parent, "qkv_groups", None)  # where they are not three blocks of rows
    return torch.arange(rows) // (rows // 3) if told is None else told()


class Scales(Candidates):
    """Uniform grids that differ in their scales, group by group: symmetric, or with the zero point of the range."""

    def __init__(self, bits: int, group: Grouping, start: Tensor, scales: Tensor, zero: Tensor | None = None) -> None:
        """Take D0, the scale of the min-max range, (groups,), and the candidates' scales, (K, groups).

        `zero` (groups,) is for unsigned codes, None for signed codes around 0. A scale stretches both ends: it stays.
        """
        self.bits, self.group, self.start, self.scales, self.zero = bits, group, start, scales, zero
        self.count, self.judged, self.by_head = len(scales), group.judged, group.granularity == "head"

    def __call__(self, x: Tensor, places: Tensor) -> Tensor:
        """Return x on the grids of `places`."""
        shape = [1] * x.ndim
        if self.group.axis is not None:
            shape[self.group.axis] = -1
        scale = self.group.spread(self.scales[places]).reshape(len(places), *shape)
        if self.zero is None:
            half = 2 ** (self.bits - 1)
            return on_grid(x, scale, -half, half - 1)
        zero = self.group.spread(self.zero).reshape(shape)
        return on_grid(x, scale, -zero, 2**self.bits - 1 - zero)

    def codes(self, x: Tensor, places: Tensor) -> tuple[Codes, ...]:
        """Return the codes of `places`."""
        if self.zero is not None or self.bits > BYTE_BITS or self.group.axis not in (None, 0):
            return ()
        scale, half = self.group.spread(self.scales[places]), 2 ** (self.bits - 1)  # (k, 1 or C)
        codes = x / scale.reshape(*scale.shape, *[1] * (x.ndim - 1))
        return (Codes(codes.round_().clamp_(-half, half - 1).to(torch.int8), scale),)

    def quantizer(self, place: Tensor) -> Uniform:
        """Return the quantizer with the chosen scales."""
        place = place.to(self.scales.device).expand(self.scales.shape[1])
        return self._with(self.scales.gather(0, place[None])[0])

    def default(self) -> Uniform:
        """Return the min-max quantizer."""
        return self._with(self.start)

    def _with(self, scale: Tensor) -> Uniform:
        spread = self.group.spread(scale)
        zero = torch.zeros_like(spread) if self.zero is None else self.group.spread(self.zero)
        group = self.group
        return Uniform(
            self.bits, spread, zero, axis=group.axis, granularity=group.granularity, signed=self.zero is None
        )


def symmetric(group: Grouping, x: Tensor, bits: int, factors: Tensor) -> Scales:
    """Return the multiples `factors` (K,) of D0 = max|x| / (2^(b-1) - 0.5)."""
    start = group.starts(x, bits)
    return Scales(bits, group, start, factors[:, None] * start)


def asymmetric(group: Grouping, x: Tensor, bits: int, factors: Tensor) -> Scales:
    """Return the multiples of D0 = (max - min) / (2^b - 1), the range extended to hold 0."""
    start, zero = asymmetric_parameters(*group.extremes(x), bits)
    return Scales(bits, group, start, factors[:, None] * start, zero)


def multiples(alpha: float, beta: float, count: int, device: torch.device | None = None) -> Tensor:
    """Return alpha + i (beta - alpha) / count for i = 0 .. count - 1; beta is never reached, as in PTQ4ViT's code."""
    return alpha + torch.arange(count, device=device) * ((beta - alpha) / count)
