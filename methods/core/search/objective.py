"""What a candidate loses at an operator's output: squared error, weighted or not, and cosine distance.

Outputs come as (candidates k, rows r, heads H, positions T, channels C). A loss is a sum over rows of terms that are
never negative, for each group of channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

ALL_POSITIONS = (-3, -2, -1)
CHANNELS = (-1,)
POSITIONS = (-2,)
NOTHING = 1e-15
"""A product of norms below this means an output that vanished; its similarity to anything is 0."""
FAINT = 1 / 16
"""Outputs shorter than this share of their target are compared directly: in sums over the error they would cancel."""


@dataclass(frozen=True, eq=False)
class Objective(ABC):
    """What candidates are judged by; the least wins."""

    groups: Tensor | None = None
    """The group of each channel (C,): channels of one group are judged together. None is one group."""
    by_head: bool = False
    """Whether the heads of a product are judged apart."""
    weighted: ClassVar[bool] = False
    """Whether the gradient of a recording weights the error."""

    def by_group(self, sums: Tensor) -> Tensor:
        """Arrange (k, r, H, 1, groups of channels) as (k, r, groups): heads are groups, or are summed."""
        sums = sums.squeeze(3)
        return sums.flatten(2) if self.by_head else _sum(sums, 2)

    @abstractmethod
    def losses(self, error: Tensor, target: Tensor, gradient: Tensor | None) -> Tensor:
        """Return losses (k, r, groups) of errors (k, r, H, T, C), which may be overwritten."""

    def count(self, channels: int) -> int:
        """Return the number of groups of `channels` channels."""
        return 1 if self.groups is None else group_count(self.groups)


@dataclass(frozen=True, eq=False)
class SquaredError(Objective):
    """Sum of (G (O - O^))^2 (PTQ4ViT, equation 8); without a gradient, the plain squared error."""

    weighted = True

    def losses(self, error: Tensor, target: Tensor, gradient: Tensor | None) -> Tensor:
        """Return the squared errors."""
        if gradient is not None:
            error = error.mul_(gradient)
        return self.by_group(group_sums(_sum(error.square_(), 3, keep=True), self.groups))


@dataclass(frozen=True, eq=False)
class Cosine(Objective):
    """1 - cosine similarity along `axes` of (H, T, C), summed over everything else.

    Where the last axis is among them, channels are compared group by group; without it, each is a group of its own.
    """

    axes: tuple[int, ...] = CHANNELS

    def losses(self, error: Tensor, target: Tensor, gradient: Tensor | None) -> Tensor:
        """Return the distances."""
        square, length = self.squared(error), self.squared(target)
        # |e| of a faint output a + e is close to |a|; seldom true, so that few candidates are looked at twice
        near: Tensor | slice = slice(None)  # on a GPU all are, as it would have to wait for the answer
        if error.device.type == "cpu":
            near = ((square - length).abs() < (2 + FAINT) * FAINT * length).flatten(1).any(1)
        faint = error[near] + target if isinstance(near, slice) or near.any() else None
        distance = cosine_distance(square, self.reduce(error.mul_(target)), length)  # (k, r, H, T, groups)
        if faint is not None:
            distance[near] = self._corrected(distance[near], faint, target, length)
        return self.by_group(_sum(distance, 3, keep=True))

    def _corrected(self, distance: Tensor, out: Tensor, target: Tensor, length: Tensor) -> Tensor:
        """Return the distances (k, r, H, T, groups) with those of faint outputs taken from the outputs themselves."""
        short = self.squared(out)
        product = (short * length).sqrt_()
        direct = (1 - self.reduce(out * target) / product.clamp_min(NOTHING)).masked_fill_(product <= NOTHING, 1.0)
        return torch.where(short < FAINT**2 * length, direct, distance)

    def count(self, channels: int) -> int:
        """Return the number of groups of `channels` channels."""
        return super().count(channels) if -1 in self.axes else channels

    def reduce(self, x: Tensor) -> Tensor:
        """Sum (..., H, T, C) over the axes that are compared; they stay, with length 1 (or that of the groups)."""
        for axis in self.axes:
            x = group_sums(x, self.groups) if axis == -1 else _sum(x, axis, keep=True)
        return x

    def squared(self, x: Tensor) -> Tensor:
        """Return `reduce` of the squares; over the channels alone, in one pass."""
        if self.axes != CHANNELS:
            return self.reduce(x.square())
        if self.groups is None:
            square: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
            return square
        blocks = equal_blocks(self.groups)
        if blocks is None:
            return self.reduce(x.square())
        by_block: Tensor = torch.linalg.vector_norm(x.unflatten(-1, (blocks, -1)), dim=-1).square_()
        return by_block


def cosine_distance(square: Tensor, along: Tensor, target: Tensor) -> Tensor:
    """Return 1 - cos(a, a + e) from |e|^2, a . e and |a|^2; 1 where one of the two vanishes.

    With b = a + e: |a| |b| - a . b = (|e|^2 - (|b| - |a|)^2) / 2 and |b|^2 - |a|^2 = 2 a . e + |e|^2. Nothing as large
    as the vectors cancels, so that even at 8 bits, where all candidates come close, rounding does not order them.
    """
    square, along = square.contiguous(), along.contiguous()  # or each pass below walks in tiny strides
    excess = square.add(along, alpha=2)
    length = target.sqrt()
    other = (excess + target).clamp_min_(0).sqrt_()  # |b|
    product = other * length
    difference = excess.div_(other.add_(length).clamp_min_(NOTHING))  # |b| - |a|
    distance = torch.addcmul(square, difference, difference, value=-1).clamp_min_(0)
    return distance.div_(product.mul(2).clamp_min_(NOTHING)).masked_fill_(product <= NOTHING, 1.0)


def group_sums(x: Tensor, groups: Tensor | None) -> Tensor:
    """Return sums over the channels of each group, (..., C) to (..., G); `groups` (C,) numbers them, None is one."""
    if groups is None:
        return x.sum(-1, keepdim=True)
    blocks = equal_blocks(groups)
    if blocks is None:
        return x @ nn.functional.one_hot(groups).to(x)
    return x if blocks == len(groups) else x.unflatten(-1, (blocks, -1)).sum(-1)


def group_count(groups: Tensor) -> int:
    """Return the number of groups."""
    return _layout(groups)[0]


def equal_blocks(groups: Tensor) -> int | None:
    """Return the number of groups where each is a run of channels, all of one length, in order; else None."""
    count, regular = _layout(groups)
    return count if regular else None


def _layout(groups: Tensor) -> tuple[int, bool]:
    """Return the number of groups, and whether they are runs of one length; looked at once, as a GPU has to wait."""
    if groups not in _LAYOUTS:
        numbers: list[int] = groups.tolist()
        count = max(numbers) + 1
        length = max(1, len(numbers) // count)
        _LAYOUTS[groups] = count, all(number == i // length for i, number in enumerate(numbers))
    found: tuple[int, bool] = _LAYOUTS[groups]
    return found


_LAYOUTS = WeakTensorKeyDictionary()


def _sum(x: Tensor, axis: int, *, keep: bool = False) -> Tensor:
    """Sum over an axis; without a pass over the data where it has length 1."""
    if x.shape[axis] == 1:
        return x if keep else x.squeeze(axis)
    return x.sum(axis, keepdim=keep)
