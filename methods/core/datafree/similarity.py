"""Patch similarity and its entropy (PSAQ-ViT, Li et al., ECCV 2022, arXiv 2203.02250), within a memory budget.

The similarities of an image are N^2 numbers per block, and a kernel around each of them at every point of the density's
grid. Neither is ever held whole: both are computed part by part, forwards and backwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

BANDWIDTH = 0.01
LOG_FLOOR = 1e-4
"""Added to the density before its logarithm."""
LIVE = 4
"""Tensors of a part's size that exist at once."""


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
        budget = max(1, int(self.budget_mib * 2**20 / (LIVE * outputs.element_size())))
        grid = self._grid(directions.detach(), budget)
        return entropy_of(density(directions, grid, budget), grid)

    def _grid(self, directions: Tensor, budget: int) -> Tensor:
        """Return evenly spaced points from the smallest to the largest similarity of the whole batch."""
        extremes = [torch.stack(part.similarity.aminmax()) for part in _parts(directions, budget)]
        low, high = torch.stack(extremes)[:, 0].min(), torch.stack(extremes)[:, 1].max()
        return low + (high - low) * torch.linspace(0, 1, self.points, dtype=low.dtype, device=low.device)


def density(directions: Tensor, grid: Tensor, budget: int) -> Tensor:
    """Return the kernel density at `grid`, (B, points), of the cosines between the patches of each window.

    `directions` holds unit vectors, (B, windows, N, d); all pairs count, also a patch with itself. At most `budget`
    similarities are held at once.
    """
    return cast(Tensor, _Density.apply(directions, grid, budget))  # cast: an autograd function's apply is untyped


def entropy_of(density: Tensor, grid: Tensor) -> Tensor:
    """Return the mean over images of the integral of -p ln p, by the trapezoid rule; `density` is (B, points)."""
    p = density + LOG_FLOOR
    return torch.trapezoid(-p * p.log(), grid, dim=-1).mean()


@dataclass(frozen=True)
class _Part:
    """Similarities of some rows of patches, in some windows, of some images, and where they belong."""

    images: slice
    windows: slice
    rows: slice
    similarity: Tensor  # (images, windows, rows, N)


def _parts(directions: Tensor, budget: int) -> Iterator[_Part]:
    images, windows, patches, _ = directions.shape
    rows = max(1, min(patches, budget // patches))
    together = max(1, min(windows, budget // (patches * rows)))
    batch = max(1, min(images, budget // (patches * rows * together)))
    for image in range(0, images, batch):
        for window in range(0, windows, together):
            chosen = directions[image : image + batch, window : window + together]
            for row in range(0, patches, rows):
                part = chosen[:, :, row : row + rows] @ chosen.transpose(-2, -1)
                at = slice(image, image + batch), slice(window, window + together), slice(row, row + rows)
                yield _Part(*at, part)


def _kernel(similarity: Tensor, point: Tensor) -> Tensor:
    """Return exp(-(point - similarity)^2 / 2 h^2), unnormalised; never below e^-80."""
    exponent = (similarity - point).square_().mul_(-0.5 / BANDWIDTH**2)
    return exponent.clamp_min_(-80).exp_()  # denormal numbers make exp many times slower on a CPU


class _Density(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, directions: Tensor, grid: Tensor, budget: int) -> Tensor:
        ctx.save_for_backward(directions, grid)
        ctx.budget = budget
        sums = directions.new_zeros(len(directions), len(grid))
        for part in _parts(directions, budget):
            sums[part.images] += torch.stack([_kernel(part.similarity, point).sum((1, 2, 3)) for point in grid], dim=1)
        return sums * _norm(directions)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        directions, grid = ctx.saved_tensors
        slopes = grads[0] * _norm(directions) / BANDWIDTH**2  # (B, points)
        found = torch.empty_like(directions)
        for part in _parts(directions, ctx.budget):
            slope = torch.zeros_like(part.similarity)
            for weight, point in zip(slopes[part.images].T, grid, strict=True):
                pull = _kernel(part.similarity, point).mul_(point - part.similarity)
                slope.addcmul_(pull, weight[:, None, None, None])
            # Similarity is symmetric: the gradients of a patch as row and as column are the same.
            found[part.images, part.windows, part.rows] = 2 * slope @ directions[part.images, part.windows]
        return found, None, None


def _norm(directions: Tensor) -> float:
    _, windows, patches, _ = directions.shape
    return 1 / (math.sqrt(2 * math.pi) * BANDWIDTH * windows * patches**2)
