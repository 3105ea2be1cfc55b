"""Column by column: each column of a weight is rounded, and those that are still to come make up for the error.

Frantar et al., GPTQ, ICLR 2023, arXiv 2210.17323; Li et al., GPTAQ, ICML 2025, arXiv 2504.02692, algorithm 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vitptq.methods.core.layerwise.row_grid import RowGrid

BLOCK = 128
"""Columns whose later ones are corrected together: the result is the same for any number, the time is not."""

Order = Literal["energy", "given"]
"""Which columns first: those of inputs with much energy (the released codes' act_order), or as they stand."""


def rounded_by_columns(
    weight: Tensor, gram: Tensor, grid: RowGrid, *, damping: float, order: Order, drift: Tensor | None = None
) -> Tensor:
    """Return `weight` (groups, outputs, inputs) on the grid with little |W X~ - Q X|^2; all in float64.

    `gram` is X X^T, (groups, inputs, inputs); `damping` times the mean of its diagonal is added to the diagonal.
    `drift` is (X~ - X) X^T; without it the target is W X, GPTQ's, with it W X~, GPTAQ's.
    """
    inputs = weight.shape[-1]
    places = by_energy(gram) if order == "energy" else torch.arange(inputs, device=gram.device).expand(len(gram), -1)
    columns = places[:, None].expand_as(weight)
    factor = inverse_factor(_permuted(damped(gram, damping), places))
    pull = torch.zeros_like(factor) if drift is None else drift_pull(_permuted(drift, places), factor)
    rounded = _rounded(weight.gather(2, columns), factor, pull, grid)
    return torch.empty_like(rounded).scatter_(2, columns, rounded)


def by_energy(gram: Tensor) -> Tensor:
    """Return the columns by the energy of their inputs, most first, (groups, inputs)."""
    return gram.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)


def damped(gram: Tensor, damping: float) -> Tensor:
    """Return the matrix with `damping` times the mean of its diagonal on it, and 1 for inputs that are always 0."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    added = damping * diagonal.mean(1, keepdim=True) + (diagonal == 0).to(gram)
    return gram + torch.diag_embed(added.expand_as(diagonal))


def inverse_factor(gram: Tensor) -> Tensor:
    """Return the lower L with L L^T = inverse of `gram`, each (groups, n, n)."""
    factor: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(gram)))
    return factor


def drift_pull(drift: Tensor, factor: Tensor) -> Tensor:
    """Return P = ((X~ - X) X^T L * strictly upper ones) L^T: what columns add to later ones (GPTAQ eq. 18)."""
    return (drift @ factor).triu(1) @ factor.transpose(1, 2)


def _permuted(matrix: Tensor, places: Tensor) -> Tensor:
    rows = matrix.gather(1, places[:, :, None].expand_as(matrix))
    return rows.gather(2, places[:, None].expand_as(matrix))


def _rounded(weight: Tensor, factor: Tensor, pull: Tensor, grid: RowGrid) -> Tensor:
    """Return the rounded columns, in the order of `factor`; `weight` is used up."""
    rounded = torch.empty_like(weight)
    count = weight.shape[2]
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        errors = torch.empty_like(weight[:, :, start:stop])
        for j in range(start, stop):
            column = weight[:, :, j : j + 1]
            rounded[:, :, j : j + 1] = grid.nearest(column)
            error = (column - rounded[:, :, j : j + 1]) / factor[:, j, j, None, None]
            errors[:, :, j - start : j - start + 1] = error
            behind = slice(j + 1, stop)
            weight[:, :, behind] -= error @ factor[:, behind, j][:, None] - column @ pull[:, j, behind][:, None]
        later, block = slice(stop, count), slice(start, stop)
        weight[:, :, later] -= errors @ factor[:, later, block].transpose(1, 2)
        weight[:, :, later] += weight[:, :, block] @ pull[:, block, later]
    return rounded
