"""Patch similarity and its entropy (PSAQ-ViT, Li et al., ECCV 2022, arXiv 2203.02250), within a memory budget.

The similarities of an image are N^2 numbers per block, and each has a kernel at every point of the density's grid. They
are computed part by part, and none is kept for the backward pass: the entropy's gradient is found with its value.
Similarity is symmetric, so each pair of patches is looked at once where all pairs of a window fit the budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.autograd import applied

BANDWIDTH = 0.01
LOG_FLOOR = 1e-4
"""Added to the density before its logarithm."""
LIVE = 12
"""Numbers per pair beside its kernels: its similarity and gradient, both also as squares, and two index tables."""


@dataclass(frozen=True)
class Entropy:
    """The differential entropy of patch similarity, by a Gaussian kernel density on an evenly spaced grid.

    `points` = 10 is the published grid. Its spacing is about ten bandwidths where similarities spread, so it misses
    most of such a density; 100 resolves it.
    """

    points: int = 10
    budget_mib: float = 256.0
    """Memory for similarities and kernels at any time; at least one row of similarities is held."""

    def __call__(self, outputs: Tensor, images: int) -> Tensor:
        """Return the mean entropy over `images`, in nats, differentiable.

        `outputs` is attention times values, (images * windows, heads, tokens, channels). As published, heads are
        averaged and the first token is dropped, the class token or, where there are windows, their first patch.
        """
        patches = outputs.mean(dim=1)[:, 1:]  # (images * windows, N, d)
        directions = torch.nn.functional.normalize(patches, dim=-1, eps=1e-8)
        directions = directions.reshape(images, -1, *directions.shape[1:])  # (B, windows, N, d)
        budget = int(self.budget_mib * 2**20 / outputs.element_size())
        return entropy(directions, grid_of(directions.detach(), self.points, budget), budget)


def grid_of(directions: Tensor, points: int, budget: int) -> Tensor:
    """Return evenly spaced points from the smallest to the largest similarity of the whole batch."""
    extremes = [
        torch.stack(part.similarities(group).aminmax())
        for group, parts in _groups(directions, budget // LIVE)
        for part in parts
    ]
    low, high = torch.stack(extremes)[:, 0].min(), torch.stack(extremes)[:, 1].max()
    return low + (high - low) * torch.linspace(0, 1, points, dtype=low.dtype, device=low.device)


def entropy(directions: Tensor, grid: Tensor, budget: int) -> Tensor:
    """Return the mean entropy over images of the cosines between the patches of each window, differentiable.

    `directions` holds unit vectors, (B, windows, N, d); all pairs count, also a patch with itself. `grid` has the
    points at which the density is taken. About `budget` numbers are held for similarities and kernels at once.
    """
    return applied(_Entropy, directions, grid, budget)


def integral(density: Tensor, grid: Tensor) -> Tensor:
    """Return the mean over images of the integral of -p ln p, by the trapezoid rule; `density` is (B, points)."""
    p = density + LOG_FLOOR
    return torch.trapezoid(-p * p.log(), grid, dim=-1).mean()


class _Entropy(torch.autograd.Function):
    """The gradient is found in the forward pass, where the kernels of a group of images still are."""

    @staticmethod
    def forward(ctx: Any, directions: Tensor, grid: Tensor, budget: int) -> Tensor:
        values, gradients = [], []
        for group, parts in _groups(directions, budget // (len(grid) + LIVE)):
            share = len(group) / len(directions)
            value, gradient = _of_group(group, parts, grid)
            values.append(share * value)
            gradients.append(gradient.mul_(share))
        ctx.save_for_backward(torch.cat(gradients))
        return torch.stack(values).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return grads[0] * gradient, None, None


def _of_group(group: Tensor, parts: Sequence[_Part], grid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean entropy of a group of images, (B, windows, N, d), and its gradient."""
    _, windows, patches, _ = group.shape
    norm = 1 / (math.sqrt(2 * math.pi) * BANDWIDTH * windows * patches**2)
    density = group.new_zeros(len(group), len(grid))
    held: tuple[Tensor, Tensor] | None = None
    for part in parts:
        held = None  # the last part's go before the next one's come
        held = _kernels(part.similarities(group), grid)
        density += norm * (held[1] @ part.counts)
    with torch.enable_grad():
        value = integral(density.requires_grad_(), grid)
    (slopes,) = torch.autograd.grad(value, density)
    # The gradient of a kernel by its similarity is kernel * (point - similarity) / h^2.
    pulls = torch.stack([slopes * grid, slopes], dim=1) * (norm / BANDWIDTH**2)  # (B, 2, points)
    gradient = torch.empty_like(group)
    for part in parts:
        if len(parts) > 1 or held is None:  # a single part's are still there
            held = None
            held = _kernels(part.similarities(group), grid)
        at_points, at_similarity = (pulls @ held[1]).unbind(1)
        part.pull(gradient, group, at_points.sub_(at_similarity.mul_(held[0])))
    return value.detach(), gradient


def _kernels(similarity: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the similarities and exp(-(point - similarity)^2 / 2 h^2), (B, points, pairs), never below e^-80."""
    exponent = (similarity[:, None] - grid[:, None]).square_().mul_(-0.5 / BANDWIDTH**2)
    return similarity, exponent.clamp_min_(-80).exp_()  # denormal numbers make exp many times slower on a CPU


@dataclass(frozen=True)
class _Part:
    """Pairs of patches: those in `rows` with all others of their window, in some windows of some images."""

    windows: slice
    rows: slice
    counts: Tensor
    """How many entries of the squares of similarities each pair stands for, (pairs,)."""
    chosen: Tensor | None = None
    """Where the pairs are in a window's square; None: all entries are taken, in their order."""
    spread: Tensor | None = None
    """Which of the pairs is at each place of a window's square."""

    def similarities(self, group: Tensor) -> Tensor:
        """Return the cosines, (B, pairs), in a group of images, (B, windows, N, d)."""
        patches = group[:, self.windows]
        squares = patches[:, :, self.rows] @ patches.transpose(-2, -1)  # (B, windows, rows, N)
        return _taken(squares.flatten(2), self.chosen).flatten(1)

    def pull(self, gradient: Tensor, group: Tensor, slope: Tensor) -> None:
        """Set the patches' gradient, (B, windows, N, d), from that by similarity, (B, pairs)."""
        patches = group[:, self.windows]
        squares = _taken(slope.unflatten(1, (patches.shape[1], -1)), self.spread).unflatten(2, (-1, patches.shape[2]))
        # Similarity is symmetric: a patch has the same gradient as row and as column.
        gradient[:, self.windows, self.rows] = (squares @ patches).mul_(2)


def _taken(x: Tensor, index: Tensor | None) -> Tensor:
    """Return the entries `index` of the last axis of `x`, (B, windows, entries); all for None."""
    return x if index is None else x.flatten(0, 1).index_select(1, index).unflatten(0, x.shape[:2])


def _groups(directions: Tensor, budget: int) -> Iterator[tuple[Tensor, Sequence[_Part]]]:
    """Yield groups of images with the parts of each; a part has at most `budget` pairs, and at least a row."""
    images, windows, patches, _ = directions.shape
    pairs = patches * (patches + 1) // 2
    together = max(1, min(windows, budget // pairs))
    if pairs <= budget:
        parts = _whole_windows(directions, together)
    else:
        rows = max(1, budget // patches)
        entries = directions.new_ones(rows * patches)
        parts = [
            _Part(slice(window, window + 1), slice(row, row + rows), entries[: min(rows, patches - row) * patches])
            for window in range(windows)
            for row in range(0, patches, rows)
        ]
    batch = max(1, budget // (pairs * windows))
    for image in range(0, images, batch):
        yield directions[image : image + batch], parts


def _whole_windows(directions: Tensor, together: int) -> list[_Part]:
    """Return parts of `together` windows in which each pair of patches stands for its two places in the square."""
    windows, patches = directions.shape[1:3]
    row, column = torch.triu_indices(patches, patches, device=directions.device)
    spread = row.new_empty(patches, patches)
    spread[row, column] = spread[column, row] = torch.arange(len(row), device=row.device)
    counts = (2 - (row == column).to(directions.dtype)).repeat(together)
    return [
        _Part(
            slice(start, start + together),
            slice(None),
            counts[: min(together, windows - start) * len(row)],
            row * patches + column,
            spread.flatten(),
        )
        for start in range(0, windows, together)
    ]
