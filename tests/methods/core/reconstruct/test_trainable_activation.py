"""Dropping and learned scales: exact values, gradients by hand and against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vitptq.methods.core.quantizers.adaptive_log import AdaptiveLog
from vitptq.methods.core.quantizers.log import LogSqrt2
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.reconstruct.trainable_activation import TrainableActivation, mask, mixed


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def values(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(4, 3, 50, generator=generator(5), dtype=dtype)


def per_tensor(dtype: torch.dtype = torch.float32) -> Uniform:
    quantizer = Uniform(3, torch.tensor(0.37), torch.tensor(3.0))
    return quantizer.to(dtype)


def per_head(dtype: torch.dtype = torch.float32) -> Uniform:
    quantizer = Uniform(3, torch.tensor([0.3, 0.4, 0.6]), torch.tensor([3.0, 2.0, 4.0]), axis=1, granularity="head")
    return quantizer.to(dtype)


@pytest.mark.parametrize("probability", [0.5, 0.3, 0.9])
def test_mask_is_ones_with_the_probability(probability: float) -> None:
    drawn = mask(torch.empty(300, 333), probability, generator())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn.mean().item() == pytest.approx(probability, abs=0.01)
    neighbours = (drawn.flatten()[1:] * drawn.flatten()[:-1]).mean().item()
    assert neighbours == pytest.approx(probability**2, abs=0.01)


@pytest.mark.parametrize("make", [per_tensor, per_head])
def test_keeping_everything_is_the_quantizer_bit_for_bit(make: object) -> None:
    quantizer = make()  # type: ignore[operator]
    x = values()
    assert torch.equal(TrainableActivation(quantizer, 1.0, generator(), learn=True)(x), quantizer(x))


@pytest.mark.parametrize("make", [per_tensor, per_head, lambda: LogSqrt2(3, torch.tensor(2.0))])
def test_each_value_is_quantised_or_as_it_was(make: object) -> None:
    quantizer = make()  # type: ignore[operator]
    x = values()
    out, hard = TrainableActivation(quantizer, 0.5, generator(), learn=False)(x), quantizer(x)
    kept = out == hard
    assert torch.equal(out[~kept], x[~kept])
    assert 0.4 < kept.float().mean() < 0.65


def test_dropping_everything_is_the_float_tensor() -> None:
    x = values()
    assert torch.equal(TrainableActivation(per_tensor(), 0.0, generator(), learn=True)(x), x)


def test_mixed_takes_either() -> None:
    quantised, plain = torch.full((999,), 1e8), torch.full((999,), 1e-8)
    out = mixed(quantised, plain, 0.5, generator())
    assert set(out.tolist()) == {quantised[0].item(), plain[0].item()}
    assert mixed(quantised, plain, 1.0, generator()) is quantised


@pytest.mark.parametrize("make", [per_tensor, per_head])
@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_gradients_by_hand(make: object, probability: float) -> None:
    quantizer = make(torch.float64)  # type: ignore[operator]
    x = values(torch.float64).requires_grad_()
    upstream = torch.randn(x.shape, dtype=torch.float64, generator=generator(9))
    form = TrainableActivation(quantizer, probability, generator(2), learn=True)
    (form(x) * upstream).sum().backward()
    chosen = torch.ones_like(x) if probability == 1 else mask(x, probability, generator(2))
    scale = quantizer._like(x, quantizer.scale.detach())
    zero = quantizer._like(x, quantizer.zero_point)
    code = (x.detach() / scale).round()
    hard = code.clamp(-zero, 7 - zero)
    inside = (code == hard).double()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, upstream * (chosen * inside + 1 - chosen))
    by_element = upstream * chosen * (hard - inside * x.detach() / scale)
    expected = by_element.sum() if quantizer.axis is None else by_element.sum((0, 2))
    torch.testing.assert_close(quantizer.scale.grad, expected.reshape(quantizer.scale.shape))


def test_scale_gradient_where_clipped_against_finite_differences() -> None:
    """Where every value is clipped, x^ is linear in the scale and the straight-through gradient is the true one."""
    quantizer = per_tensor(torch.float64)
    x = values(torch.float64).sign() * 100
    form = TrainableActivation(quantizer, 1.0, generator(), learn=True)
    upstream = torch.randn(x.shape, dtype=torch.float64, generator=generator(9))
    (form(x) * upstream).sum().backward()
    gradient = quantizer.scale.grad
    found = []
    with torch.no_grad():
        for sign in (1, -1):
            quantizer.scale += sign * 1e-6
            found.append((form(x) * upstream).sum())
            quantizer.scale -= sign * 1e-6
    torch.testing.assert_close(gradient[0], (found[0] - found[1]) / 2e-6)


def test_scales_stay_positive_and_are_let_go() -> None:
    quantizer = per_tensor()
    form = TrainableActivation(quantizer, 1.0, generator(), learn=True)
    with torch.no_grad():
        quantizer.scale.fill_(-0.2)
    form.guard()
    assert quantizer.scale.item() == pytest.approx(0.2)
    form.release()
    assert not quantizer.scale.requires_grad


def test_a_quantizer_names_what_it_lets_be_learned() -> None:
    class Own(LogSqrt2):
        learned = ("ceiling",)

    quantizer = Own(3, torch.tensor(1.0))
    assert TrainableActivation(quantizer, 1.0, generator(), learn=True).learned[0] is quantizer.ceiling
    assert TrainableActivation(LogSqrt2(3, torch.tensor(1.0)), 1.0, generator(), learn=True).learned == []


DOUBLE = torch.float64


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def slope(value: Callable[[float], Tensor], at: float, step: float = 1e-6) -> Tensor:
    """Return the central difference."""
    return (value(at + step) - value(at - step)) / (2 * step)


GRIDS = {
    "both signs": (torch.tensor(0.37), torch.tensor(3.0), None),
    "no code below 0": (torch.tensor(0.37), torch.tensor(0.0), None),
    "no value below 0": (torch.tensor(0.37), torch.tensor(0.0), None),
    "zero point between codes": (torch.tensor(0.37), torch.tensor(0.4), None),
    "no code for 0": (torch.tensor(0.37), torch.tensor(-2.0), None),
    "per head": (torch.tensor([0.3, 0.4, 0.6]), torch.tensor([3.0, 0.0, -1.0]), 1),
}


@pytest.mark.parametrize("probability", [1.0, 0.5])
@pytest.mark.parametrize("name", GRIDS)
def test_learned_scale(name: str, probability: float) -> None:
    """LSQ: with the rounding error in steps held fixed, x^ = x + s e where rounded, and s times the code at an end."""
    scale, zero, axis = GRIDS[name]
    grid = Uniform(3, scale, zero, axis=axis).double()
    nonnegative = name == "no value below 0"
    x, upstream = drawn(4, 3, 50, seed=5), drawn(4, 3, 50, seed=9)
    x = (1.5 * x.abs() if nonnegative else x).requires_grad_()
    form = TrainableActivation(grid, probability, torch.Generator().manual_seed(2), learn=True, nonnegative=nonnegative)
    out = form(x)
    (out * upstream).sum().backward()
    chosen = torch.ones_like(x) if probability == 1 else mask(x, probability, torch.Generator().manual_seed(2))
    s, z = grid._like(x, grid.scale.detach()), grid._like(x, grid.zero_point)
    code = (x.detach() / s).round()
    hard = code.clamp(-z, 7 - z)
    error, inside = code - x.detach() / s, code == hard

    def surrogate(s: Tensor, x: Tensor) -> Tensor:
        return torch.where(chosen.bool(), torch.where(inside, x + s * error, s * hard), x)

    torch.testing.assert_close(out.detach(), surrogate(s, x.detach()))
    assert grid.scale.grad is not None and x.grad is not None
    for group in range(len(grid.scale)):
        moved = grid.scale.detach().clone()

        def value(at: float, moved: Tensor = moved, group: int = group) -> Tensor:
            moved[group] = at
            return (surrogate(grid._like(x, moved), x.detach()) * upstream).sum()

        torch.testing.assert_close(grid.scale.grad[group], slope(value, moved[group].item()), atol=1e-6, rtol=1e-6)
    (expected,) = torch.autograd.grad((surrogate(s, x) * upstream).sum(), x)
    torch.testing.assert_close(x.grad, expected)


def test_ceiling_of_adaptive_logarithms() -> None:
    grid = AdaptiveLog(3, torch.tensor(2.0), torch.tensor(30.0), shift=0.1)
    grid.double().ceiling.requires_grad_()
    x, upstream = drawn(200).abs() * 1.5, drawn(200, seed=1)
    out = grid(x)
    (out * upstream).sum().backward()
    share, inside = (out.detach() - (x + 0.1) + 0.1) / 2.0, x + 0.1 <= 2.0  # what rounding added, in ceilings

    def value(at: float) -> Tensor:
        return (torch.where(inside, x + at * share, torch.as_tensor(at, dtype=DOUBLE) - 0.1) * upstream).sum()

    assert 0 < inside.sum() < len(x) and grid.ceiling.grad is not None
    torch.testing.assert_close(grid.ceiling.grad, slope(value, 2.0), atol=1e-6, rtol=1e-5)
