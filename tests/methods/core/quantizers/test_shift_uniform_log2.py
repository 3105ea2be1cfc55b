"""SULQ: its codes by hand, and powers of two less eta."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vitptq.methods.core.quantizers.lookup_table import LookupTable
from vitptq.methods.core.quantizers.shift_uniform_log2 import covering
from vitptq.methods.core.ranges.attention_grids import least_error_sulq, least_error_tanq


def probabilities(spread: float = 3.0) -> Tensor:
    logits = torch.randn(4, 2, 33, 33, generator=torch.Generator().manual_seed(1)) * spread
    return logits.softmax(-1)


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


def test_sulq_by_hand() -> None:
    # eta = 1/8, x in 0 .. 7/8: y in 0 .. 3; at 2 bits a step of 1, so powers of two from 1 down to 1/8
    grid = covering(torch.tensor([0.0, 0.875]), 2, 0.125)
    assert (grid.step, grid.start) == (1.0, 0.0)
    assert grid.table.tolist() == [0.875, 0.375, 0.125, 0.0]
    assert grid(torch.tensor([0.0, 0.05, 0.06, 0.4, 1.0])).tolist() == [0.0, 0.0, 0.125, 0.375, 0.875]


def test_sulq_puts_out_powers_of_two_less_eta() -> None:
    for form in ("paper", "code"):
        for bits in (3, 4, 6, 8):
            grid = least_error_sulq(probabilities(), bits, form=form)
            exponents = (grid.table.double() + grid.eta).log2()
            torch.testing.assert_close(exponents, exponents.round(), rtol=0, atol=1e-4)
            assert len(grid.table) == 2**bits + (form == "code")


def test_sulq_has_few_levels_whatever_the_bits() -> None:
    for bits in (6, 8):
        grid = least_error_sulq(probabilities(), bits)
        assert grid.grid().shape[1] <= math.log2((1 + grid.eta) / grid.eta) + 2
