"""LayerNorm and softmax on integers: by hand, against Python integers, and near the float ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vitptq.methods.core.quantizers.integer import (
    LINEAR,
    SQUARE,
    IntegerLayerNorm,
    IntegerSoftmax,
    LogIntSoftmax,
    as_integer,
    log_int_softmax,
    relative_scores,
    rounded,
    score_scale,
)
from vitptq.methods.core.ranges.estimation import asymmetric_parameters
from vitptq.methods.core.ranges.integer import power_of_two_factors


def wide_channels() -> Tensor:
    """Return (tokens, channels) of which the widest is many times the narrowest."""
    torch.manual_seed(3)
    return torch.randn(400, 24) * torch.logspace(-2, 1, 24) + torch.randn(24)


def parameters(x: Tensor, bits: int = 8) -> tuple[Tensor, Tensor]:
    return asymmetric_parameters(x.amin().reshape(1), x.amax().reshape(1), bits)


def test_integer_layer_norm_stays_within_its_bound_of_the_float_one() -> None:
    x, norm = wide_channels(), nn.LayerNorm(24)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
        base, zero = parameters(x)
        factors = power_of_two_factors(x.T, base, zero, 8)
        expected = norm(rounded(x, base / 8 * factors.exp2(), zero, 8).double().float())
        out_scale, _ = parameters(expected)
        integer = IntegerLayerNorm(norm, base, zero, factors, out_scale, 8)
        actual = integer(x)
    assert ((actual - expected).abs() <= out_scale + expected.abs() / 128 + 1e-5).all()
    multiples = actual / out_scale
    torch.testing.assert_close(multiples, multiples.round(), atol=1e-3, rtol=0)


def test_constant_token_puts_out_finite_numbers_near_the_shift() -> None:
    norm = nn.LayerNorm(4)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
        one = torch.ones(1)
        out = IntegerLayerNorm(norm, one, one * 128, torch.zeros(4), one * 0.5, 8)(torch.full((1, 4), 3.0))
    assert ((out - norm.bias).abs() < 1.5).all()  # the multiplier's 8 bits limit what cancels


def test_multiplier_and_shift_by_hand() -> None:
    multiplier, shift = as_integer(torch.tensor([0.75, -3.0, 0.0]))
    assert shift.tolist() == [8, 6, 31]
    assert multiplier.tolist() == [192, 192, 0]


def test_codes_of_equal_scores_by_hand() -> None:
    for count, code in ((1, 0), (2, 1), (4, 2), (5, 2), (6, 3), (64, 6)):  # 6 = 1.5 * 4 rounds up
        codes = log_int_softmax(torch.zeros(1, count, dtype=torch.float64), torch.tensor(0.05, dtype=torch.float64))
        assert codes.tolist() == [[code] * count]


@pytest.mark.parametrize("scale", [0.01, 0.05, 0.08])
def test_integer_softmax_equals_python_integers(scale: float) -> None:
    torch.manual_seed(2)
    scores = (-torch.rand(8, 12) * 255).round()
    scores = scores - scores.amax(1, keepdim=True)
    octave, linear = math.floor(-0.6931 / scale), math.floor(LINEAR / SQUARE / scale)
    constant = math.floor(1 / SQUARE / scale**2)
    codes = log_int_softmax(scores.double(), torch.tensor(scale, dtype=torch.float64))
    for row, found in zip(scores.int().tolist(), codes.tolist(), strict=True):
        exponentials = []
        for x in row:
            x = max(x, 30 * octave)
            quotient = x // octave
            rest = x - octave * quotient
            value = (rest * (rest + linear) + constant) * 2 ** (30 - quotient)
            exponentials.append(max(0, value))
        for exponential, code in zip(exponentials, found, strict=True):
            inverse = round(sum(exponentials) / exponential)
            whole = inverse.bit_length() - 1
            assert code == whole + (inverse >= 1.5 * 2**whole)


@pytest.mark.parametrize("spread", [0.2, 0.6])  # wider rows mean coarser steps, and a longer octave
def test_integer_softmax_is_within_the_measured_factor_of_the_float_one(spread: float) -> None:
    torch.manual_seed(4)
    scores = torch.randn(4, 3, 20, 20) * spread
    exact = scores.softmax(-1)
    quantizer = LogIntSoftmax(4, score_scale(-relative_scores(exact).amin()))
    assert quantizer.scale <= 0.1
    values = quantizer(exact)
    ratio = (values / exact)[values > 2.0**-15]
    assert ratio.min() > 0.6 and ratio.max() < 1.66
    assert torch.equal(values.gather(-1, exact.argmax(-1, keepdim=True))[..., 0], values.amax(-1))


def test_masked_scores_get_the_last_code() -> None:
    quantizer = LogIntSoftmax(4, torch.tensor(0.05))
    values = quantizer(torch.tensor([[0.0, -torch.inf]]).softmax(-1))
    assert values.tolist() == [[1, 2**-15]]
    assert LogIntSoftmax(4, torch.tensor(0.05), zero=True)(torch.tensor([[1.0, 0.0]])).tolist() == [[1, 0]]


def test_softmax_has_sixteen_values_and_with_the_released_zero_seventeen() -> None:
    for kind in (LogIntSoftmax, IntegerSoftmax):
        assert kind(4, torch.tensor(0.05)).grid().shape == (1, 16)
        assert kind(4, torch.tensor(0.05), zero=True).grid().shape == (1, 17)


@pytest.mark.parametrize("zero", [False, True])
def test_softmax_of_scores_on_the_grid_equals_that_of_their_probabilities(zero: bool) -> None:
    torch.manual_seed(5)
    scores = (torch.randn(2, 3, 9, 9) / 0.05).round() * 0.05
    scale = torch.tensor(0.05)
    of_probabilities = LogIntSoftmax(4, scale, zero=zero)(scores.softmax(-1))
    assert torch.equal(IntegerSoftmax(4, scale, zero=zero)(scores), of_probabilities)


def test_exact_softmax_does_not_fall_an_octave_where_a_quotient_is_just_below_an_integer() -> None:
    below = torch.tensor(7 * 0.1).nextafter(torch.tensor(0.0))  # one octave of 7 steps below the largest, nearly
    scores = torch.stack([torch.tensor(0.7), 0.7 - below])[None]
    assert IntegerSoftmax(4, torch.tensor(0.1))(scores).tolist() == [[0.5, 0.25]]


def test_layer_norm_without_epsilon_is_not_finite_on_a_constant_token() -> None:
    one, token = torch.ones(1), torch.full((1, 4), 3.0)
    norm = nn.LayerNorm(4)
    assert IntegerLayerNorm(norm, one, one * 128, torch.zeros(4), one * 0.5, 8)(token).isfinite().all()
    assert not IntegerLayerNorm(norm, one, one * 128, torch.zeros(4), one * 0.5, 8, eps=0.0)(token).isfinite().all()
