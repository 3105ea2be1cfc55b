"""AdaRound's equations by hand, and gradients against finite differences in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vitptq.bench.errors import Unsupported
from vitptq.methods.core.quantizers.log import Log2
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.reconstruct.trainable_weight import (
    AdaRoundWeight,
    FixedWeight,
    beta_at,
    h,
    regularise,
    regulariser,
    start,
)


def grid(weight: Tensor, bits: int = 3, *, shrink: float = 1.0) -> Uniform:
    low, high = weight.amin(1) * shrink, weight.amax(1) * shrink
    scale = (high - low) / (2**bits - 1)
    return Uniform(bits, scale, (-low / scale).round(), axis=0, granularity="channel")


def weights(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(6, 20, generator=torch.Generator().manual_seed(4), dtype=dtype)


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.0, 0.5), (-10.0, 0.0), (10.0, 1.0), (1.0, 1.2 / (1 + math.exp(-1)) - 0.1)]
)
def test_h_by_hand(alpha: float, expected: float) -> None:
    assert h(torch.tensor(alpha)).item() == pytest.approx(expected)


def test_start_is_where_h_is_the_fraction() -> None:
    fraction = torch.linspace(0, 0.999, 50, dtype=torch.float64)
    torch.testing.assert_close(h(start(fraction)), fraction)


def test_regulariser_by_hand() -> None:
    alpha = start(torch.tensor([0.5, 0.75, 1.0], dtype=torch.float64))
    assert regulariser(alpha, 2.0).item() == pytest.approx(1 + 0.75 + 0)  # 1 - |2h - 1|^2
    assert regulariser(torch.tensor([20.0, -20.0]), 7.0).item() == 0


@pytest.mark.parametrize("beta", [2.0, 5.5, 20.0])
def test_gradient_of_the_regulariser_is_that_of_autograd(beta: float) -> None:
    alpha = torch.linspace(-5, 5, 41, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(0.3 * regulariser(alpha, beta), alpha)
    alpha.grad = torch.zeros_like(alpha)
    regularise(alpha, beta, 0.3)
    torch.testing.assert_close(alpha.grad, expected)


def test_beta_waits_and_falls_linearly_to_its_end() -> None:
    assert beta_at(199, 1000) is None
    assert beta_at(200, 1000) == 20
    assert beta_at(600, 1000) == pytest.approx(11)
    assert beta_at(1000, 1000) == 2


@pytest.mark.parametrize("shrink", [1.0, 0.5])
def test_soft_weights_start_at_the_float_ones_within_the_range(shrink: float) -> None:
    weight = weights()
    quantizer = grid(weight, shrink=shrink)
    form = AdaRoundWeight(quantizer, weight)
    steps = weight / quantizer.scale[:, None] + quantizer.zero_point[:, None]
    inside = (steps >= 0) & (steps <= 7)
    soft = form(weight)
    assert ((soft - weight).abs() / quantizer.scale[:, None])[inside].max() < 1e-5
    assert inside.float().mean() > (0.85 if shrink == 1 else 0.3)


def test_hard_weights_start_at_plain_rounding_and_stay_within_one_step() -> None:
    weight = torch.nn.Parameter(weights(), requires_grad=False)
    quantizer = grid(weight, shrink=0.6)
    nearest = quantizer(weight)
    form = AdaRoundWeight(quantizer, weight)
    hard = torch.nn.Parameter(weight.clone(), requires_grad=False)
    form.harden(hard)
    torch.testing.assert_close(quantizer(hard), nearest)
    with torch.no_grad():
        form.alpha.copy_(torch.randn(form.alpha.shape))
    form.harden(hard)
    assert ((hard - weight) / quantizer.scale[:, None]).abs().max() < 1 + 1e-5
    levels = quantizer.grid()
    assert all(
        torch.isin(row.round(decimals=5), level.round(decimals=5)).all()
        for row, level in zip(quantizer(hard), levels, strict=True)
    )


def test_gradient_of_alpha_against_finite_differences() -> None:
    weight = weights(torch.float64)
    form = AdaRoundWeight(grid(weight, shrink=0.6), weight)
    mix = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def value(alpha: Tensor) -> Tensor:
        form.alpha = alpha
        return (form(weight) * mix).pow(2).sum()

    assert torch.autograd.gradcheck(value, form.alpha.detach().clone().requires_grad_(), eps=1e-7, atol=1e-5)


def test_only_uniform_grids_can_be_rounded() -> None:
    with pytest.raises(Unsupported, match="not Log2"):
        AdaRoundWeight(Log2(3, torch.tensor(1.0)), weights())


def test_fixed_weights_are_those_of_the_quantizer() -> None:
    weight = weights()
    quantizer = grid(weight)
    assert torch.equal(FixedWeight(quantizer, weight)(weight), quantizer(weight))


DOUBLE = torch.float64


def slope(value: Callable[[float], Tensor], at: float, step: float = 1e-6) -> Tensor:
    """Return the central difference."""
    return (value(at + step) - value(at - step)) / (2 * step)


@pytest.mark.parametrize("beta", [2.0, 5.5, 20.0])
def test_regulariser(beta: float) -> None:
    alpha = torch.linspace(-3, 3, 31, dtype=DOUBLE)
    alpha.grad = torch.zeros_like(alpha)
    regularise(alpha, beta, 0.3)
    for place in range(len(alpha)):
        moved = alpha.detach().clone()

        def value(x: float, moved: Tensor = moved, place: int = place) -> Tensor:
            moved[place] = x
            return 0.3 * regulariser(moved, beta)

        torch.testing.assert_close(alpha.grad[place], slope(value, alpha[place].item()), atol=1e-7, rtol=1e-5)
