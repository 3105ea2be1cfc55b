"""A low-rank residual that makes up for what the factors, and those of the layers before, leave.

The error mean |W x - (LR + PQ) x'|^2 / |W x|^2, x from the float model and x' behind the layers that are in factors, is
quadratic in PQ: its gradient needs second moments alone, so all images count in each step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vitptq.methods.core.lowrank.components import roots


@dataclass(frozen=True)
class ErrorMoments:
    """The quadratic error of a residual B: constant - 2 tr(B E^T) + tr(B G B^T), in float64."""

    gram: Tensor
    """G, (in, in): weighted mean of x' x'^T."""
    error: Tensor
    """E, (out, in): weighted mean of (W x - L R x') x'^T."""
    constant: Tensor
    """The error without a residual."""

    def loss(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the error with the residual left right, without forming their product."""
        gained = ((left.T @ self.error) * right).sum()
        return self.constant - 2 * gained + ((left.T @ left) * (right @ self.gram @ right.T)).sum()


Factors = tuple[Tensor, Tensor]
"""(out, q) and (q, in)."""


def trained_residual(moments: ErrorMoments, rank: int, *, steps: int, rate: float, seed: int) -> Factors:
    """Return factors learned with Adam from P small and random, Q = 0; nothing where they did not lower the error."""
    generator = torch.Generator().manual_seed(seed)
    outputs, inputs = moments.error.shape
    left = (torch.randn(outputs, rank, generator=generator, dtype=torch.float64) * outputs**-0.5).to(moments.error)
    right = torch.zeros(rank, inputs).to(moments.error)
    with torch.enable_grad():
        left.requires_grad_(), right.requires_grad_()
        optimiser = torch.optim.Adam([left, right], lr=rate)
        for _ in range(steps):
            optimiser.zero_grad()
            moments.loss(left, right).backward()
            optimiser.step()
    found = left.detach(), right.detach()
    return found if moments.loss(*found) < moments.constant else (found[0] * 0, found[1] * 0)


def exact_residual(moments: ErrorMoments, rank: int) -> Factors:
    """Return the factors of least error: reduced-rank regression."""
    _, inverse_root = roots(moments.gram)
    u, s, v = torch.linalg.svd(moments.error @ inverse_root, full_matrices=False)  # E G^-1 G^(1/2)
    return u[:, :rank] * s[:rank], v[:rank] @ inverse_root
