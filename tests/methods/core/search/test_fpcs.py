"""The progressive search: which grids it tries, and that finer steps only help."""

from __future__ import annotations

import itertools

import pytest
import torch

from vitptq.methods.core.search.fpcs import FPCSBudget, fpcs, own_error, uniform_grids


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_grids_reach_the_range_of_the_values(bits: int) -> None:
    x = torch.randn(3, 400) + torch.tensor([[0.0], [0.5], [20.0]])
    found = uniform_grids(x, bits, holds_zero=False)
    full = (x.amax(1) - x.amin(1)) / (2**bits - 1)
    torch.testing.assert_close(found.scale.amax(1), full)
    widest = found.scale == found.scale.amax(1, keepdim=True)
    centre = (-x.amin(1) / full).round()
    assert ((found.zero - centre[:, None]).abs()[widest] <= 8).all()
    assert (widest & (found.zero == centre[:, None])).any(1).all()


def test_a_tensor_without_negative_values_keeps_all_its_codes() -> None:
    found = uniform_grids(torch.rand(2, 300).relu(), 8)
    assert (found.zero == 0).all()


def test_the_survivors_stay_and_finer_steps_only_help() -> None:
    x = torch.randn(5, 700).sinh()
    error = own_error(x, 3)
    grids = uniform_grids(x, 3)
    errors = []
    for steps in (1, 2, 4, 6):
        scale, zero = fpcs(grids, error, FPCSBudget(steps=steps))
        errors.append(error(scale[:, None], zero[:, None])[:, 0])
        if steps == 1:
            torch.testing.assert_close(errors[0], error(grids.scale, grids.zero).amin(1))
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(errors))
    assert (errors[-1] < errors[0]).any()


def test_each_row_finds_what_it_finds_alone() -> None:
    x = torch.randn(4, 300) * torch.tensor([[1.0], [3.0], [0.1], [9.0]])
    together = fpcs(uniform_grids(x, 4), own_error(x, 4))
    for i, row in enumerate(x):
        alone = fpcs(uniform_grids(row[None], 4), own_error(row[None], 4))
        assert all(a[i] == b[0] for a, b in zip(together, alone, strict=True))
