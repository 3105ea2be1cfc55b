"""Factors of channels by hand, and that folding or dividing by them leaves the float function."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.ranges.mixed_scales import column_scales, divisors, fold_factors
from vitptq.methods.core.ranges.percentile_error import least_error_affine

ALL = (1.0,)
FRACTIONS = (0.999, 0.9999, 0.99999)


def channels() -> Tensor:
    spread = torch.tensor([0.5, 1.0, 2.0, 8.0])
    return torch.randn(4, 500, generator=torch.Generator().manual_seed(0)) * spread[:, None] + 1


def test_without_the_weights_the_factors_are_those_of_repq_vit() -> None:
    x = channels()
    factors, shift = fold_factors(x, torch.randn(5, 4), (4, 4), 0.0, FRACTIONS)
    scale, zero = least_error_affine(x, 4, FRACTIONS)
    torch.testing.assert_close(factors, scale / scale.mean())
    torch.testing.assert_close(shift, scale * (zero - zero.mean()), rtol=1e-5, atol=1e-5)


def test_the_factors_even_the_channels_out() -> None:
    x = channels()
    factors, shift = fold_factors(x, torch.ones(5, 4), (4, 4), 0.0, ALL)
    low, high = ((x + shift[:, None]) / factors[:, None]).aminmax(dim=1)
    width = high - low
    torch.testing.assert_close(width, width.mean().expand(4), rtol=1e-4, atol=1e-4)
    assert (low - low.mean()).abs().max() < 0.1 * width.mean()  # zero points are whole numbers


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.25, 1.0])
def test_the_fold_leaves_the_float_function_for_every_exponent(alpha: float) -> None:
    torch.manual_seed(0)
    norm, plain = nn.LayerNorm(4).double(), nn.Linear(4, 5).double()
    reader = Linear(plain, BitSpec(4, 4))
    for parameter in (*norm.parameters(), *reader.parameters()):
        parameter.requires_grad_(False)
    x = torch.randn(20, 4, dtype=torch.float64)
    expected = reader(norm(x))
    factors, shift = fold_factors(channels().double(), plain.weight, (4, 4), alpha, FRACTIONS)
    fold_into_layer_norm(norm, (reader,), scale=factors, shift=shift)
    torch.testing.assert_close(reader(norm(x)), expected, rtol=1e-12, atol=1e-12)


def test_divisors_are_never_below_1_and_take_large_channels_in() -> None:
    x = torch.tensor([[1.0, -1.0], [2.0, 0.0], [0.0, 0.0], [-13.0, 1.0]])  # largest: 1, 2, 0, 13; mean 4
    found = divisors(x, torch.ones(3, 4), (8, 8), 0.0, ALL)
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 1.0, 13 / 4]))


def test_the_exponent_moves_the_factors_towards_the_weights() -> None:
    x, weight = torch.ones(2, 8), torch.tensor([[1.0, 4.0]])
    found = divisors(x, weight, (8, 8), 1.0, ALL)
    torch.testing.assert_close(found, torch.tensor([2.5, 1.0]))  # 1 / (1 / 2.5), and 1 / (4 / 2.5) is below 1


def test_columns_of_zeros_and_constant_channels_give_finite_factors() -> None:
    weight = torch.zeros(3, 4)
    weight[:, 1] = 1.0
    for alpha in (0.0, 0.5, 1.0):
        factors, shift = fold_factors(torch.zeros(4, 50), weight, (4, 4), alpha, FRACTIONS)
        assert factors.isfinite().all() and shift.isfinite().all() and (factors > 0).all()
        assert divisors(torch.zeros(4, 50), weight, (4, 4), alpha, FRACTIONS).isfinite().all()


def test_scales_of_columns_are_relative_to_their_mean() -> None:
    found = column_scales(torch.tensor([[7.0, -21.0], [1.0, 3.0]]), 4, ALL)
    torch.testing.assert_close(found, torch.tensor([0.5, 1.5]))
