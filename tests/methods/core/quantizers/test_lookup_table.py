"""Grids given by a table: values on the grid, and the straight-through gradient of all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.methods.core.attention_probabilities import probabilities
from vitptq.methods.core.quantizers.lookup_table import LookupTable
from vitptq.methods.core.quantizers.shift_uniform_log2 import ShiftUniformLog2, covering
from vitptq.methods.core.quantizers.tanq import TanQ
from vitptq.methods.core.ranges.attention_grids import least_error_sulq, least_error_tanq

GRIDS = {
    "sulq, paper": lambda x, bits: least_error_sulq(x, bits),
    "sulq, code": lambda x, bits: least_error_sulq(x, bits, form="code"),
    "tanq, A": lambda x, bits: least_error_tanq(x, bits, "A"),
    "tanq, C": lambda x, bits: least_error_tanq(x, bits, "C"),
}


@pytest.fixture(params=[(name, bits) for name in GRIDS for bits in (3, 4, 8)], ids=str)
def grid(request: pytest.FixtureRequest) -> LookupTable:
    name, bits = request.param
    return GRIDS[name](probabilities(), bits)


def test_what_decodes_to_a_value_encodes_to_it_again(grid: LookupTable) -> None:
    assert torch.equal(grid(grid.table), grid.table)


def test_outputs_are_monotone_and_on_the_grid(grid: LookupTable) -> None:
    x = torch.linspace(0, 1.2, 5001)
    out = grid(x)
    assert (out.diff() >= 0).all()
    assert torch.isin(out, grid.grid()).all()
    assert torch.equal(out, grid.table[grid.codes(x)])
    assert grid.grid().shape[1] <= len(grid.table) <= 2**grid.bits + isinstance(grid, ShiftUniformLog2)


def test_nan_stays_nan(grid: LookupTable) -> None:
    assert grid(torch.tensor([0.5, torch.nan])).isnan().tolist() == [False, True]


def straight_through(grid: LookupTable, x: Tensor) -> Tensor:
    """Return the decoder's curve at the code, the rounding replaced by adding what it added."""
    place = grid.place(x.clone())
    place = place + (place.detach().round() - place.detach())
    if isinstance(grid, TanQ):
        share = place / (len(grid.table) - 1)
        if grid.reading == "A":
            return grid.ceiling * (0.5 + (grid.k * (2 * share - 1)).atan() / grid.theta)
        return grid.ceiling * (grid.theta * share).tan() / grid.k
    exponent = -(place * grid.step + grid.start)
    exponent = exponent + (exponent.detach().round() - exponent.detach())
    return exponent.exp2() - grid.eta


def test_the_gradient_is_that_of_both_curves_with_the_rounding_left_out(grid: LookupTable) -> None:
    x = torch.linspace(0.01, 0.9, 200, dtype=torch.float64)
    x = x[(x < 0.98 * grid.table.max()) & (grid.codes(x) > 0) & (grid.codes(x) < len(grid.table) - 1)]
    actual, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.linspace(1, 2, len(x), dtype=torch.float64)
    (grid(actual) * weight).sum().backward()
    out = straight_through(grid, expected)
    torch.testing.assert_close(out.detach(), grid(x), rtol=1e-5, atol=1e-6)
    (out * weight).sum().backward()
    torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-4, atol=1e-6)


def test_clipped_values_have_no_gradient() -> None:
    for grid in (TanQ(3, 0.5, 2.0, "A"), TanQ(3, 0.5, 1.0, "C"), covering(torch.tensor([0.1, 0.5]), 3, 0.01)):
        x = torch.tensor([0.3, 0.9, -0.2 if isinstance(grid, TanQ) else 0.01], requires_grad=True)
        grid(x).sum().backward()
        assert x.grad is not None
        assert (x.grad != 0).tolist() == [True, False, False]
