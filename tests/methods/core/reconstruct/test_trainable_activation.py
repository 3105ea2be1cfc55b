"""Dropping and learned scales: exact values, gradients by hand and against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

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
