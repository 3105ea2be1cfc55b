"""SULQ: its codes by hand, and powers of two less eta."""

from __future__ import annotations

import math

import torch

from tests.methods.core.attention_probabilities import probabilities
from vitptq.methods.core.quantizers.shift_uniform_log2 import covering
from vitptq.methods.core.ranges.attention_grids import least_error_sulq


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
