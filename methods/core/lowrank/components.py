"""A weight as a sum of rank-one components, ordered by how much of the layer's energy each carries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SUPPORT = 1e-7
"""Directions of less energy than this share of the largest are none that the inputs take."""


@dataclass(frozen=True)
class Components:
    """W = left right, in float64; the first r columns and rows are the approximation of rank r."""

    left: Tensor
    """(out, k)."""
    right: Tensor
    """(k, in)."""
    energy: Tensor
    """(k,), descending; what the layer's normalised error grows by where a component is dropped. The sum is 1."""

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return the two factors of the approximation of that rank."""
        return self.left[:, :rank], self.right[:rank]


def plain(weight: Tensor) -> Components:
    """Return the components of the singular value decomposition of W (out, in), by s^2."""
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return _components(u, s, v, s.square())


def by_mean_input(weight: Tensor, mean: Tensor) -> Components:
    """Return the same components by s_i^2 (v_i^T x)^2, x being the mean input, (in,).

    The u_i are orthonormal, so what is dropped is exactly the error |W x - W_r x|^2 / |W x|^2. Components that do not
    act on the mean are ordered by s^2 behind the others.
    """
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    at_mean = (s * (v @ mean)).square()
    order = s.argsort(descending=True, stable=True)
    order = order[at_mean[order].argsort(descending=True, stable=True)]
    return _components(u[:, order], s[order], v[order], at_mean[order])


def by_second_moment(weight: Tensor, moment: Tensor) -> Components:
    """Return the components of W C^(1/2), whose s^2 are the normalised errors; C is the `moment`, (in, in).

    With C = mean x x^T / |W x|^2 the mean of |W x - W_r x|^2 / |W x|^2 over the inputs is exactly what is dropped, and
    no other approximation of that rank has less. Inputs that never occur are mapped to 0.
    """
    root, inverse_root = roots(moment)
    u, s, v = torch.linalg.svd(weight @ root, full_matrices=False)
    return _components(u, s, v @ inverse_root, s.square(), s)


def roots(moment: Tensor) -> tuple[Tensor, Tensor]:
    """Return the square root of a symmetric positive matrix and its pseudo-inverse."""
    values, vectors = torch.linalg.eigh((moment + moment.T) / 2)
    kept = values > SUPPORT * values.amax().clamp_min(0)
    root = torch.where(kept, values, 0).sqrt()
    inverse = torch.where(kept, root.reciprocal(), 0)
    return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


def _components(u: Tensor, s: Tensor, v: Tensor, energy: Tensor, scale: Tensor | None = None) -> Components:
    half = (s if scale is None else scale).sqrt()
    return Components(u * half, half[:, None] * v, energy / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny))
