"""Weight candidates without their outputs: the squared error of a layer is a quadratic form in the weight.

With d = w^ - w and r = O - X w - b, for each output channel |X d - r|^2 = |r|^2 - 2 (X^T r) d + d^T (X^T X) d. Once the
Gram matrix X^T X of the inputs is known (of a convolution: of the unfolded input, one per group of channels), a
candidate costs no pass over the positions. Weights G^2 of the error give a matrix X^T diag(g_c^2) X per channel.
Expanded around the float weight, nothing larger than the error cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitptq.methods.core.model.operands import Conv2d
from vitptq.methods.core.search.candidates import Candidates
from vitptq.methods.core.search.elimination import STEP, Best
from vitptq.methods.core.search.objective import group_count, group_sums
from vitptq.methods.core.search.recording import Recording, Rows

SHARE = 0.4
"""The form is used where it takes less than this share of a plain loop's multiplications; else elimination wins."""
WEIGHTED_SHARE = 0.2
"""The same where gradients weight the error and channels are judged together: losers are given up early."""
FLOAT = 4


@dataclass(frozen=True)
class GramLosses:
    """The terms of the error per block b (channels that share a matrix) and channel m of it."""

    weight: Tensor
    """(C, ...)"""
    judged: Tensor | None
    """The group of each output channel."""
    matrix: Tensor
    """(b, d, d)"""
    pull: Tensor
    """X^T r, (b, m, d)"""
    rest: Tensor
    """|r|^2, (b, m)"""

    def best(self, candidates: Candidates, step: int) -> Best:
        """Return the best candidate per group; a step's tensors have about `step` values."""
        together = max(1, step // self.pull.numel())
        places = torch.arange(candidates.count).split(together)
        return Best.of(torch.cat([self.losses(candidates, some) for some in places]))

    def losses(self, candidates: Candidates, places: Tensor) -> Tensor:
        """Return the losses (k, groups) of some candidates."""
        change = candidates(self.weight, places).sub_(self.weight).flatten(2)  # (k, C, d)
        d = change.unflatten(1, self.pull.shape[:2]).transpose(0, 1)  # (b, k, m, d)
        y = (d.flatten(1, 2) @ self.matrix).unflatten(1, d.shape[1:3])
        square = y.sub_(2 * self.pull[:, None]).mul_(d).sum(-1).double() + self.rest[:, None].double()  # (b, k, m)
        return group_sums(square.clamp_min_(0).transpose(0, 1).flatten(1), self.judged)


def gram_losses(parts: Sequence[Recording], count: int, judged: Tensor | None, memory: int) -> GramLosses | None:
    """Return the form of the weight's error with the recorded inputs; None where there is none, or not a cheap one."""
    if not isinstance(parts[0].operator, Conv2d | Rows) or not _pays(parts, count, judged, memory):
        return None
    return expanded(parts, judged, memory)


def expanded(parts: Sequence[Recording], judged: Tensor | None, memory: int) -> GramLosses:
    """Return the form, whatever it costs; unfolded inputs come in pieces of about `memory` bytes."""
    found = [_terms(part, *piece) for part in parts for piece in _pieces(part, memory)]
    return GramLosses(parts[0].first, judged, *(torch.stack(terms).sum(0) for terms in zip(*found, strict=True)))


def _pays(parts: Sequence[Recording], count: int, judged: Tensor | None, memory: int) -> bool:
    """Tell whether the form takes few enough multiplications, and its matrices little enough memory."""
    weight = parts[0].first
    channels, size = len(weight), weight[0].numel()
    positions, weighted = sum(part.output.numel() for part in parts) // channels, parts[0].gradient is not None
    blocks = channels if weighted else _groups(parts[0])
    products = channels * size * (size + 1) // 2 if weighted else blocks * size**2
    form = positions * products + count * channels * size**2
    fits = (blocks * size**2 + 3 * channels * size) * FLOAT <= memory // 2
    apart = judged is not None and group_count(judged) == channels
    share = WEIGHTED_SHARE if weighted and not apart else SHARE
    return fits and form <= share * count * positions * channels * size


def _groups(recording: Recording) -> int:
    return recording.operator.groups if isinstance(recording.operator, Conv2d) else 1


def _pieces(recording: Recording, memory: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield unfolded inputs (n, g, d, L), targets and gradients (n, g, m, L), some samples or rows at a time."""
    size = recording.first[0].numel()
    wide = 0 if recording.gradient is None else size * (size + 1) // 2
    per_row = recording.output[0].numel() // len(recording.first) * _groups(recording) * (2 * size + wide) * FLOAT
    together = max(1, memory // 2 // per_row)
    for at in range(0, len(recording.output), together):
        rows = slice(at, at + together)
        gradient = None if recording.gradient is None else _by_channel(recording, recording.gradient[rows])
        yield (
            unfolded(recording.operator, recording.second[rows]),
            _by_channel(recording, recording.output[rows]),
            gradient,
        )


def unfolded(operator: nn.Module | Rows, x: Tensor) -> Tensor:
    """Return what each output position of a convolution reads, (n, groups, d, L); of rows (L, d) the same."""
    if not isinstance(operator, Conv2d):
        return x.T[None, None]
    mode = "constant" if operator.padding_mode == "zeros" else operator.padding_mode
    x = nn.functional.pad(x, operator._reversed_padding_repeated_twice, mode=mode)
    columns = nn.functional.unfold(x, operator.kernel_size, dilation=operator.dilation, stride=operator.stride)
    grouped: Tensor = columns.unflatten(1, (operator.groups, -1))
    return grouped


def _by_channel(recording: Recording, y: Tensor) -> Tensor:
    """Return outputs as (n, groups, m, L)."""
    if not isinstance(recording.operator, Conv2d):
        return y.T[None, None]
    grouped: Tensor = y.flatten(2).unflatten(1, (recording.operator.groups, -1))
    return grouped


def _terms(recording: Recording, x: Tensor, target: Tensor, gradient: Tensor | None) -> tuple[Tensor, ...]:
    """Return the matrix, pull and rest of `GramLosses` from some samples."""
    weight = recording.first.flatten(1).unflatten(0, (x.shape[1], -1))  # (g, m, d)
    bias: Tensor | None = getattr(recording.operator, "bias", None)
    rest = target - weight @ x - (0 if bias is None else bias.reshape(x.shape[1], -1, 1))
    inputs = x.transpose(2, 3)
    if gradient is None:
        return (x @ inputs).sum(0), (rest @ inputs).sum(0), rest.square().sum((0, 3))
    importance = gradient.square()
    weighed = rest * importance
    matrix, pull = _matrices(x, importance).sum(0), (weighed @ inputs).sum(0)
    # a block is one channel: (C, d, d), (C, 1, d), (C, 1)
    return matrix.flatten(0, 1), pull.flatten(0, 1)[:, None], (weighed * rest).sum((0, 3)).reshape(-1, 1)


def _matrices(x: Tensor, importance: Tensor) -> Tensor:
    """Return X^T diag(importance_c) X of each channel, (n, g, m, d, d).

    Channels that share inputs share their products, each pair of inputs multiplied once.
    """
    if importance.shape[2] == 1:  # depthwise: nothing to share
        return ((x * importance) @ x.transpose(2, 3))[:, :, None]
    size = x.shape[2]
    rows, columns = torch.triu_indices(size, size, device=x.device)
    packed = importance.new_zeros(*importance.shape[:3], len(rows))
    length = max(1, STEP // (len(rows) * x.shape[0] * x.shape[1]))  # so that the products stay in the cache
    for some, weights in zip(x.split(length, dim=3), importance.split(length, dim=3), strict=True):
        products = torch.cat([some[:, :, one : one + 1] * some[:, :, one:] for one in range(size)], dim=2)
        packed += weights @ products.transpose(2, 3)
    full = packed.new_empty(*packed.shape[:-1], size, size)
    full[..., rows, columns] = packed
    full[..., columns, rows] = packed
    return full
