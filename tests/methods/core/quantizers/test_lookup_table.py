"""Grids given by a table: SULQ by hand, both tangents' limits, and the straight-through gradient of all."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vitptq.methods.core.quantizers.lookup_table import LookupTable
from vitptq.methods.core.quantizers.shift_uniform_log2 import ETAS, ShiftUniformLog2, covering, shift_uniform_log2
from vitptq.methods.core.quantizers.tanq import SHARES, TanQ, tangent


def probabilities(spread: float = 3.0) -> Tensor:
    logits = torch.randn(4, 2, 33, 33, generator=torch.Generator().manual_seed(1)) * spread
    return logits.softmax(-1)


GRIDS = {
    "sulq, paper": lambda x, bits: shift_uniform_log2(x, bits),
    "sulq, code": lambda x, bits: shift_uniform_log2(x, bits, form="code"),
    "tanq, A": lambda x, bits: tangent(x, bits, "A"),
    "tanq, C": lambda x, bits: tangent(x, bits, "C"),
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


def test_sulq_by_hand() -> None:
    # eta = 1/8, x in 0 .. 7/8: y in 0 .. 3; at 2 bits a step of 1, so powers of two from 1 down to 1/8
    grid = covering(torch.tensor([0.0, 0.875]), 2, 0.125)
    assert (grid.step, grid.start) == (1.0, 0.0)
    assert grid.table.tolist() == [0.875, 0.375, 0.125, 0.0]
    assert grid(torch.tensor([0.0, 0.05, 0.06, 0.4, 1.0])).tolist() == [0.0, 0.0, 0.125, 0.375, 0.875]


def test_sulq_puts_out_powers_of_two_less_eta() -> None:
    for form in ("paper", "code"):
        for bits in (3, 4, 6, 8):
            grid = shift_uniform_log2(probabilities(), bits, form=form)
            exponents = (grid.table.double() + grid.eta).log2()
            torch.testing.assert_close(exponents, exponents.round(), rtol=0, atol=1e-4)
            assert len(grid.table) == 2**bits + (form == "code")


def test_sulq_has_few_levels_whatever_the_bits() -> None:
    for bits in (6, 8):
        grid = shift_uniform_log2(probabilities(), bits)
        assert grid.grid().shape[1] <= math.log2((1 + grid.eta) / grid.eta) + 2


@pytest.mark.parametrize("bits", [3, 4])
def test_the_shift_has_the_least_error_of_all(bits: int) -> None:
    x = probabilities()
    chosen = shift_uniform_log2(x, bits)
    errors = {eta: (covering(x, bits, eta)(x) - x).square().mean().item() for eta in ETAS}
    assert (chosen(x) - x).square().mean().item() <= min(errors.values()) * (1 + 1e-6)
    assert chosen.eta in ETAS


@pytest.mark.parametrize("reading", ["A", "C"])
@pytest.mark.parametrize("bits", [3, 8])
def test_the_tangents_begin_at_nought_and_end_at_the_ceiling(reading, bits: int) -> None:
    for share in SHARES:
        grid = TanQ(bits, 0.7, share * (math.pi if reading == "A" else math.pi / 2), reading)
        assert grid.codes(torch.tensor([0.0, 0.7, 5.0, -5.0])).tolist() == [0, 2**bits - 1, 2**bits - 1, 0]
        assert grid(torch.tensor([0.0, 5.0])).tolist() == pytest.approx([0, 0.7])
        assert torch.equal(grid.codes(grid.table), torch.arange(2**bits, dtype=torch.int32))


@pytest.mark.parametrize("reading", ["A", "C"])
def test_a_small_angle_is_the_uniform_grid(reading) -> None:
    even = torch.linspace(0, 0.5, 16)
    assert (TanQ(4, 0.5, 0.01, reading).table - even).abs().max() < 1e-3 * 0.5
    assert (TanQ(4, 0.5, 1.5, reading).table - even).abs().max() > 1e-2 * 0.5


def test_reading_a_is_symmetric_and_reading_c_is_not() -> None:
    x = torch.linspace(0.001, 0.499, 300)
    two_ended, one_ended = TanQ(4, 0.5, 2.5, "A"), TanQ(4, 0.5, 1.4, "C")
    torch.testing.assert_close(two_ended(0.5 - x), 0.5 - two_ended(x), rtol=0, atol=1e-6)
    assert (one_ended(0.5 - x) - (0.5 - one_ended(x))).abs().max() > 0.01
    assert one_ended.table.diff()[0] < one_ended.table.diff()[-1] / 4


def test_tangent_by_hand() -> None:
    # theta = pi / 2: k = 1, so code 1 of 3 is 1/2 + atan(-1/3) / (pi / 2)
    assert TanQ(2, 1.0, math.pi / 2, "A").table[1].item() == pytest.approx(0.5 - math.atan(1 / 3) / (math.pi / 2))
    # theta = pi / 4: k = 1, so code 1 of 3 is tan(pi / 12)
    assert TanQ(2, 1.0, math.pi / 4, "C").table[1].item() == pytest.approx(math.tan(math.pi / 12))


def product_error(grid: LookupTable, attention: Tensor, values: Tensor) -> float:
    exact = attention @ values
    return ((grid(attention) @ values - exact).norm() / exact.norm()).item()


def test_at_3_bits_both_tangents_beat_the_uniform_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.rand(16, 1, 1, generator=generator) * 1.5 + 0.5
    attention = (torch.randn(16, 197, 197, generator=generator) * spread).softmax(-1)
    values = torch.randn(16, 197, 32, generator=generator)
    even = TanQ(3, attention.max().item(), 1e-3, "C")
    errors = {reading: product_error(tangent(attention, 3, reading), attention, values) for reading in ("A", "C")}
    assert max(errors.values()) < product_error(even, attention, values)
    assert errors["C"] < errors["A"]
