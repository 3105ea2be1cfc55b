"""COMQ: coordinate descent."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from vitptq.methods.comq import descended
from vitptq.methods.core.layerwise.row_grid import RowGrid
from vitptq.methods.core.ranges.estimation import min_max, uniform


def problem(seed: int, inputs: int, bits: int) -> tuple[Tensor, Tensor, RowGrid]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, 4, inputs, generator=generator, dtype=torch.float64)
    x = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64) @ torch.randn(
        inputs, 50, generator=generator, dtype=torch.float64
    )
    grid = RowGrid.of(uniform(*min_max(weight[0].float()), bits, axis=0, granularity="channel"), 1, 1)
    return weight, (x @ x.T)[None], grid


def objective(weight: Tensor, rounded: Tensor, gram: Tensor) -> Tensor:
    """Return each row's error, (outputs,)."""
    error = (weight - rounded)[0]
    return ((error @ gram[0]) * error).sum(1)


def test_no_sweep_makes_any_row_worse() -> None:
    weight, gram, grid = problem(0, 12, 3)
    errors = [objective(weight, descended(weight, gram, grid, sweeps), gram) for sweeps in range(5)]
    for before, after in itertools.pairwise(errors):
        assert (after <= before + 1e-9).all()
    assert errors[-1].sum() < 0.5 * errors[0].sum()


@pytest.mark.parametrize("seed", range(5))
def test_no_single_code_can_be_bettered(seed: int) -> None:
    weight, gram, grid = problem(seed, 3, 2)
    found = descended(weight, gram, grid, 20)
    ends = objective(weight, found, gram)
    for row, column, code in itertools.product(range(4), range(3), range(4)):
        other = found.clone()
        other[0, row, column] = (grid.lowest[0, row, 0] + code) * grid.scale[0, row, 0]
        assert objective(weight, other, gram)[row] >= ends[row] - 1e-9


def test_optimum_of_a_few_rows_is_that_of_brute_force() -> None:
    hits = 0
    for seed in range(6):
        weight, gram, grid = problem(seed, 3, 2)
        codes = torch.tensor(list(itertools.product(range(4), repeat=3)), dtype=torch.float64)  # (64, 3)
        every = (grid.lowest[0] + codes[:, None]) * grid.scale[0]  # (64, outputs, 3)
        errors = weight - every
        best = ((errors @ gram[0]) * errors).sum(2).amin(0)
        found = objective(weight, descended(weight, gram, grid, 20), gram)
        assert (found >= best - 1e-9).all()
        hits += int((found <= best + 1e-9).sum())
    assert hits >= 12  # of 24: coordinate descent may end in a local optimum


def test_column_whose_input_is_always_zero_is_rounded_to_nearest() -> None:
    weight, gram, grid = problem(0, 6, 3)
    gram[:, 2], gram[:, :, 2] = 0, 0
    found = descended(weight, gram, grid, 3)
    assert torch.equal(found[:, :, 2], grid.nearest(weight)[:, :, 2])
    assert found.isfinite().all()
