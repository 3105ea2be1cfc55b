"""Whether what a product read lies on the grid of the quantizer that put it out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np
import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer

ON_GRID = 1e-3
"""Largest accepted distance from the grid, as a share of the grid's smallest step."""
ROUNDING = 8
"""Largest accepted distance from the grid in units of the last place of the largest value: rounding, nothing more."""


@dataclass(frozen=True)
class Levels:
    """What was found in a tensor: grid values used and available in one group, and whether a value is off the grid."""

    used: int
    available: int
    off_grid: bool


def levels(
    output: Tensor, quantizer: Quantizer, grid: Tensor, *, dynamic: bool = False, sample: int | None = None
) -> Levels:
    """Look the values of `output` up in `grid`, shape (groups, levels), ascending: all, or about `sample` of them.

    Groups are slices along one axis, or anything would be a grid; of a tensor of four axes or more also along two
    behind the first, such as head and token, so that all images and another axis share a grid. Ranges that are found
    while the model runs (`dynamic`) may also have one grid per position of several leading axes, such as image and
    token.
    """
    step = output.numel() // sample | 1 if sample is not None and output.numel() > sample else 1  # odd: all channels
    if sample is not None and len(grid) == 1 and output.numel():
        return _few(_flat(output)[0, ::step], grid[0])
    available = _distinct(grid)
    values = _flat(output) if len(grid) == 1 else _slices(output, quantizer, len(grid), dynamic=dynamic)
    if values is None:
        return Levels(0, available, off_grid=True)
    if not output.numel():  # the heads of a detector that proposes nothing
        return Levels(0, available, off_grid=False)
    used, off_grid = _look_up(values[:, ::step], grid)
    return Levels(used, available, off_grid)


def covers(output: Tensor, read: Tensor) -> bool:
    """Tell whether every value of `read`, which shares the storage of `output`, is one of `output`'s."""
    if read.dtype != output.dtype:
        return False
    storage = output.untyped_storage().nbytes() // output.element_size()
    if output.is_contiguous() and output.numel() == storage:
        return True
    put_out = torch.zeros(storage, dtype=torch.bool, device=output.device)
    put_out.as_strided(output.shape, output.stride(), output.storage_offset()).fill_(True)
    return bool(put_out.as_strided(read.shape, read.stride(), read.storage_offset()).all())


def _few(values: Tensor, grid: Tensor) -> Levels:
    """Look few values up in one grid: for so few, NumPy takes a fraction of the time of as many torch operations."""
    seen, levels = values.double().cpu().numpy(), grid.double().cpu().numpy()
    steps = np.diff(levels)
    smallest = steps.min(initial=np.inf, where=steps > 0)
    places = np.searchsorted((levels[1:] + levels[:-1]) / 2, seen)
    slack = min(ON_GRID * smallest, ROUNDING * torch.finfo(values.dtype).eps * np.abs(seen).max())
    near = np.abs(levels[places] - seen) <= slack  # a NaN is near nothing
    return Levels(len(np.unique(places)), int(np.count_nonzero(steps)) + 1, off_grid=not near.all())


def _flat(output: Tensor) -> Tensor:
    """Return (1, values) in the order of memory, which needs no copy of what is a transposed tensor."""
    order = sorted(range(output.ndim), key=output.stride, reverse=True)
    return output.permute(order).reshape(1, -1)


def _slices(output: Tensor, quantizer: Quantizer, groups: int, *, dynamic: bool) -> Tensor | None:
    """Return (groups, values) as the quantizer arranges them; None where its groups are no slices."""
    arranged = quantizer.groups(output)
    if len(arranged) != groups:
        return None
    for axis in range(output.ndim):
        if output.shape[axis] == groups:
            found = output.movedim(axis, 0).flatten(1)
            if _same_rows(arranged, found):
                return found
    axes: list[tuple[int, ...]] = [*combinations(range(1, output.ndim), 2)] if output.ndim >= 4 else []
    axes += [tuple(range(k)) for k in range(2, output.ndim)] if dynamic else []
    fitting = (each for each in axes if prod(output.shape[axis] for axis in each) == groups)
    slices = (output.movedim(each, tuple(range(len(each)))).reshape(groups, -1) for each in fitting)
    return next((found for found in slices if _same_rows(arranged, found)), None)


def _same_rows(arranged: Tensor, found: Tensor) -> bool:
    """Tell whether both have the same values in each row, in whatever order."""
    if arranged.shape != found.shape:
        return False
    return torch.equal(arranged, found) or torch.equal(arranged.sort(dim=1).values, found.sort(dim=1).values)


def _distinct(rows: Tensor) -> int:
    """Return the largest number of distinct values in an ascending row."""
    return int((rows.diff(dim=1) != 0).sum(dim=1).max()) + 1


def _look_up(values: Tensor, grid: Tensor) -> tuple[int, bool]:
    """Return the largest number of grid values used by a group, and whether any value is off the grid.

    `values` is (groups, n), `grid` (groups, levels) ascending. Looking the values up is much cheaper than sorting them.
    """
    last_place = torch.finfo(values.dtype).eps
    exact = torch.promote_types(torch.promote_types(values.dtype, grid.dtype), torch.float32)
    values, grid = values.to(exact), grid.to(exact)
    steps = grid.diff(dim=1)
    smallest = steps.where(steps > 0, torch.inf).amin(dim=1, keepdim=True) if steps.numel() else steps.new_tensor([[0]])
    slack = ROUNDING * last_place * values.abs().amax(dim=1, keepdim=True)
    places = _evenly(values, grid, steps) if _is_even(steps) else _searched(values, grid)
    near = (grid.gather(1, places) - values).abs() <= torch.minimum(ON_GRID * smallest, slack)
    used = torch.zeros(grid.shape, dtype=torch.bool, device=grid.device).scatter_(1, places, True)
    return int(used.sum(dim=1).max()), not bool(near.all())  # a NaN is near nothing


def _is_even(steps: Tensor) -> bool:
    """Tell whether every grid has equal steps, to about the last place."""
    if not steps.numel():
        return False
    least, largest = steps.aminmax(dim=1)
    return bool(((least > 0) & (largest - least <= ON_GRID * least)).all())


def _evenly(values: Tensor, grid: Tensor, steps: Tensor) -> Tensor:
    """Return the place of the nearest grid value in a grid of equal steps: three times as fast as searching."""
    places = (values - grid[:, :1]).div_(steps.mean(dim=1, keepdim=True)).round_()
    return places.nan_to_num_(0).clamp_(0, grid.shape[1] - 1).long()


def _searched(values: Tensor, grid: Tensor) -> Tensor:
    """Return the place of the nearest grid value by its distance: the middle of two neighbours may round to either."""
    above = torch.searchsorted(grid, values.contiguous()).clamp_max_(grid.shape[1] - 1)  # (groups, n)
    below = (above - 1).clamp_min_(0)
    nearer_below = (values - grid.gather(1, below)).abs() < (values - grid.gather(1, above)).abs()
    return torch.where(nearer_below, below, above)
