"""Weight candidates without their outputs: the error of a layer is a quadratic form in the weight.

With d = w^ - w and r = O - X w - b, for each output channel |X d - r|^2 = |r|^2 - 2 (X^T r) d + d^T (X^T X) d. Once the
second-moment matrix X^T X of the inputs is known (of a convolution: of the unfolded input, one per group of channels),
a candidate costs no pass over the positions. Weights G^2 of the error give a matrix X^T diag(g_c^2) X per channel. For
the cosine along positions the three terms, and O^T X d, are needed per image. Expanded around the float weight, nothing
larger than the error cancels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitptq.methods.core.model.operands import Conv2d, Linear
from vitptq.methods.core.search.candidate_losses import Candidates
from vitptq.methods.core.search.elimination import STEP, Best
from vitptq.methods.core.search.objective import (
    ALL_POSITIONS,
    POSITIONS,
    Cosine,
    Objective,
    cosine_distance,
    group_sums,
)
from vitptq.methods.core.search.recording import Rows, Trace

SHARE = 0.4
"""The form is used where it takes less than this share of a plain loop's multiplications; else a race is faster."""
WEIGHTED_SHARE = 0.2
"""The same where gradients weight the error: they are large at few positions, which ends a race early."""
FLOAT = 4


@dataclass(frozen=True)
class QuadraticWeights:
    """The error's terms per sample s (one, or each image), block b (channels that share a matrix), channel m of it."""

    weight: Tensor
    """(C, ...)"""
    objective: Objective
    matrix: Tensor
    """(s, b, d, d)"""
    pull: Tensor
    """X^T r, (s, b, m, d)"""
    rest: Tensor
    """|r|^2, (s, b, m)"""
    along: tuple[Tensor, Tensor, Tensor] | None = None
    """X^T O, as `pull`, O . r and |O|^2, as `rest`; for the cosine only."""

    def best(self, candidates: Candidates, count: int, step: int) -> Best:
        """Return the best of `count` candidates per group; a step's tensors have about `step` values."""
        together = max(1, step // self.pull.numel())
        places = torch.arange(count, device=self.weight.device).split(together)
        return Best.of(torch.cat([self.losses(candidates, some) for some in places]))

    def losses(self, candidates: Candidates, places: Tensor) -> Tensor:
        """Return the losses (k, groups) of some candidates."""
        change = candidates(self.weight, places).sub_(self.weight).flatten(2)  # (k, C, d)
        d = change.unflatten(1, self.pull.shape[1:3]).transpose(0, 1)  # (b, k, m, d)
        y = (d.flatten(1, 2) @ self.matrix).unflatten(2, d.shape[1:3])  # (s, b, k, m, d)
        square = y.sub_(2 * self.pull[:, :, None]).mul_(d).sum(-1).double() + self.rest[:, :, None].double()
        square = _channels(square.clamp_min_(0))  # (s, k, C)
        if self.along is None or not isinstance(self.objective, Cosine):
            return group_sums(square.sum(0), self.objective.groups)
        direction, offset, norm = self.along
        along = _channels((direction[:, :, None] * d).sum(-1).double() - offset[:, :, None].double())
        target = _channels(norm[:, :, None].double())
        if self.objective.axes == ALL_POSITIONS:
            square, along, target = (group_sums(x, self.objective.groups) for x in (square, along, target))
        return cosine_distance(square, along, target).sum(0)


def _channels(x: Tensor) -> Tensor:
    """Arrange (s, b, k, m) as (s, k, C)."""
    return x.transpose(1, 2).flatten(2)


def quadratic_form(trace: Trace, count: int, objective: Objective, memory: int) -> QuadraticWeights | None:
    """Return the form of the weight's error with the input `trace.second`; None where it is not exact or not cheap."""
    if not isinstance(trace.operator, Linear | Conv2d | Rows):
        return None
    if isinstance(objective, Cosine) and objective.axes not in (POSITIONS, ALL_POSITIONS):
        return None
    per_image, weighted = isinstance(objective, Cosine), objective.weighted and trace.gradient is not None
    return expanded(trace, objective, memory) if _pays(trace, count, weighted, per_image, memory) else None


def expanded(trace: Trace, objective: Objective, memory: int) -> QuadraticWeights:
    """Return the form, whatever it costs; unfolded inputs come in pieces of about `memory` bytes."""
    per_image, weighted = isinstance(objective, Cosine), objective.weighted and trace.gradient is not None
    parts = [_terms(trace, *piece, per_image) for piece in _pieces(trace, weighted, memory)]
    joined = [torch.cat(terms) if per_image else torch.stack(terms).sum(0) for terms in zip(*parts, strict=True)]
    matrix, pull, rest, *cosine = joined
    along = (cosine[0], cosine[1], cosine[2]) if per_image else None
    return QuadraticWeights(trace.first, objective, matrix, pull, rest, along)


def _pays(trace: Trace, count: int, weighted: bool, per_image: bool, memory: int) -> bool:
    """Tell whether the form takes few enough multiplications, and its matrices little enough memory."""
    channels, size = len(trace.first), trace.first[0].numel()
    positions = trace.output.numel() // channels
    samples = len(trace.output) if per_image else 1
    blocks = channels if weighted else _groups(trace)
    pairs = channels * size * (size + 1) // 2 if weighted else _groups(trace) * size**2
    form = positions * pairs + count * samples * channels * size**2
    fits = samples * (blocks * size**2 + 3 * channels * size) * FLOAT <= memory // 2
    share = WEIGHTED_SHARE if weighted else SHARE
    return fits and form <= share * count * positions * channels * size


def _groups(trace: Trace) -> int:
    return trace.operator.groups if isinstance(trace.operator, Conv2d) else 1


def _pieces(trace: Trace, weighted: bool, memory: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield unfolded inputs (n, g, d, L), targets and gradients (n, g, m, L), some samples or rows at a time."""
    size = trace.first[0].numel()
    wide = size * (size + 1) // 2 if weighted else 0
    per_row = trace.output[0].numel() // len(trace.first) * _groups(trace) * (2 * size + wide) * FLOAT
    together = max(1, memory // 2 // per_row)
    for at in range(0, len(trace.output), together):
        rows = slice(at, at + together)
        gradient = None if not weighted or trace.gradient is None else by_channel(trace, trace.gradient[rows])
        yield unfolded(trace, trace.second[rows]), by_channel(trace, trace.output[rows]), gradient


def unfolded(trace: Trace, x: Tensor) -> Tensor:
    """Return what each output position reads: (n, groups, d, L)."""
    operator = trace.operator
    if isinstance(operator, Rows):
        return x.T[None, None]
    if not isinstance(operator, Conv2d):
        return x.reshape(len(x), -1, x.shape[-1]).transpose(1, 2)[:, None]
    mode = "constant" if operator.padding_mode == "zeros" else operator.padding_mode
    x = nn.functional.pad(x, operator._reversed_padding_repeated_twice, mode=mode)
    columns = nn.functional.unfold(x, operator.kernel_size, dilation=operator.dilation, stride=operator.stride)
    return columns.unflatten(1, (operator.groups, -1))


def by_channel(trace: Trace, y: Tensor) -> Tensor:
    """Return outputs as (n, groups, m, L)."""
    if isinstance(trace.operator, Rows):
        return y.T[None, None]
    if not isinstance(trace.operator, Conv2d):
        return y.reshape(len(y), -1, y.shape[-1]).transpose(1, 2)[:, None]
    return y.flatten(2).unflatten(1, (trace.operator.groups, -1))


def residual(trace: Trace, x: Tensor, target: Tensor) -> Tensor:
    """Return O - X w - b, (n, g, m, L), from unfolded inputs and targets."""
    weight = trace.first.flatten(1).unflatten(0, (x.shape[1], -1))  # (g, m, d)
    bias: Tensor | None = getattr(trace.operator, "bias", None)
    return target - weight @ x - (0 if bias is None else bias.reshape(x.shape[1], -1, 1))


def _terms(trace: Trace, x: Tensor, target: Tensor, gradient: Tensor | None, per_image: bool) -> tuple[Tensor, ...]:
    """Return the terms of `QuadraticWeights` from some samples."""
    rest = residual(trace, x, target)
    inputs = x.transpose(2, 3)
    if per_image:
        error = (x @ inputs, rest @ inputs, rest.square().sum(-1))
        return (*error, target @ inputs, (target * rest).sum(-1), target.square().sum(-1))
    if gradient is None:
        return tuple(y.sum(0, keepdim=True) for y in (x @ inputs, rest @ inputs, rest.square().sum(-1)))
    importance = gradient.square()
    weighed = rest * importance
    matrix, pull = _matrices(x, importance).sum(0), (weighed @ inputs).sum(0)
    # a block is one channel: (1, C, d, d), (1, C, 1, d), (1, C, 1)
    return matrix.flatten(0, 1)[None], pull.flatten(0, 1)[None, :, None], (weighed * rest).sum((0, 3)).reshape(1, -1, 1)


def _matrices(x: Tensor, importance: Tensor) -> Tensor:
    """Return X^T diag(importance_c) X of each channel, (n, g, m, d, d).

    Channels that share inputs share their products, each pair of inputs multiplied once. A channel with inputs of its
    own (depthwise) has nothing to share.
    """
    if importance.shape[2] == 1:
        return ((x * importance) @ x.transpose(2, 3))[:, :, None]
    size = x.shape[2]
    rows, columns = torch.triu_indices(size, size, device=x.device)
    packed = importance.new_zeros(*importance.shape[:3], len(rows))
    length = max(1, STEP // (len(rows) * x.shape[0] * x.shape[1]))  # so that the pairs stay in the cache
    for some, weights in zip(x.split(length, dim=3), importance.split(length, dim=3), strict=True):
        packed += weights @ _pairs(some).transpose(2, 3)
    full = packed.new_empty(*packed.shape[:-1], size, size)
    full[..., rows, columns] = packed
    full[..., columns, rows] = packed
    return full


def _pairs(x: Tensor) -> Tensor:
    """Return the products of each pair of inputs, (n, g, d, L) to (n, g, d (d + 1) / 2, L), in triu_indices' order."""
    size = x.shape[2]
    found = x.new_empty(*x.shape[:2], size * (size + 1) // 2, x.shape[3])
    # picking both sides with index tensors takes several times as long as the products
    parts = zip(x.split(1, dim=2), found.split(list(range(size, 0, -1)), dim=2), strict=True)
    for one, (row, products) in enumerate(parts):
        torch.mul(row, x[:, :, one:], out=products)
    return found
