"""AdaLog's grid: its table, its codes, its gradient, and the shift that moves into the bias."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.quantizers.adaptive_log import GELU_DEPTH, AdaptiveLog, Gradient, decoded, fold_shift, on_grids
from vitptq.methods.core.ranges.estimation import uniform

ONE = torch.ones(())


def number(value: float) -> torch.Tensor:
    return torch.tensor(value)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("q", [10, 37, 60, 137])
def test_the_table_follows_the_power_within_its_steps(bits: int, q: int) -> None:
    table = decoded(number(float(q)), bits, "extra")
    exact = torch.exp2(-torch.arange(2**bits, dtype=torch.float64) * q / 37)
    fine = 2 ** (bits + 1) - 2
    whole = torch.exp2(-torch.floor(torch.arange(2**bits, dtype=torch.float64) * q / 37))
    assert table[0] == 1 and table[-1] == 0
    assert ((table[:-1] - exact).abs() <= whole * (0.5 / fine + 1e-12)).all()
    assert (table.diff() <= 0).all()


def test_base_two_is_exact_and_keeps_its_levels() -> None:
    assert decoded(number(37.0), 3).tolist() == [1, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0]
    assert AdaptiveLog(3, ONE, number(20.0)).grid().shape == (1, 8)
    assert AdaptiveLog(3, ONE, number(20.0), zero_code="extra").grid().shape == (1, 9)


def test_codes_by_hand() -> None:
    # base 2^(74/37) = 4: 0.3 -> -log2(0.3)/2 = 0.87 -> 1; 0.1 -> 1.66 -> 2; 0.01 -> 3.3 -> the last code, which is 0
    grid = AdaptiveLog(2, ONE, number(74.0))
    assert grid(torch.tensor([1.0, 2.0, 0.3, 0.1, 0.01, 0.0, -1.0])).tolist() == [1, 1, 0.25, 0.0625, 0, 0, 0]


def test_values_are_on_the_grid_also_behind_the_shift() -> None:
    x = nn.functional.gelu(torch.randn(500) * 2)
    grid = AdaptiveLog(4, number(3.0), number(23.0), shift=GELU_DEPTH)
    assert torch.isin(grid(x), grid.grid()).all()
    many = on_grids(x, 4, GELU_DEPTH)(number(3.0), number(23.0))
    torch.testing.assert_close(many, grid(x))
    assert grid(torch.tensor([torch.nan])).isnan().all()


def test_gelu_is_nowhere_below_the_shift() -> None:
    x = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    least = nn.functional.gelu(x).min()
    assert 0 <= least + GELU_DEPTH < 1e-6


def test_the_gradient_of_the_ceiling_is_that_of_the_values_outside_and_lsq_inside() -> None:
    x = torch.tensor([0.2, 0.7, 5.0], dtype=torch.float64, requires_grad=True)
    grid = AdaptiveLog(3, number(2.0), number(30.0), shift=0.1)
    grid.ceiling.requires_grad_()
    out = grid(x)
    out.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 1, 0]
    inside = (out[:2] + 0.1 - (x[:2] + 0.1)).sum() / 2
    assert grid.ceiling.grad is not None
    torch.testing.assert_close(grid.ceiling.grad.double(), inside + 1)  # 5.1 decodes to the ceiling itself
    higher = AdaptiveLog(3, number(2.001), number(30.0), shift=0.1)
    slope = (higher(x.detach())[2] - out[2]) / 0.001
    assert abs(slope.item() - 1) < 1e-3


def test_through_the_logarithm_a_ceiling_learns_from_the_values_above_it_alone() -> None:
    x = torch.tensor([-0.05, 0.2, 0.7, 5.0, 6.0], requires_grad=True)
    grid = AdaptiveLog(3, number(2.0), number(37.0), shift=0.1, gradient="log")
    grid.ceiling.requires_grad_()
    out = grid.quantise_in_training(x)
    (out * torch.tensor([1.0, 1.0, 1.0, 2.0, 3.0])).sum().backward()
    assert x.grad is not None and grid.ceiling.grad is not None
    assert grid.ceiling.grad == 5
    torch.testing.assert_close(x.grad, torch.where(x < 2, (out + 0.1) / (x + 0.1), 0.0))


def test_through_the_logarithm_probabilities_leave_their_ceiling() -> None:
    grid = AdaptiveLog(3, ONE, number(20.0), gradient="log")
    grid.ceiling.requires_grad_()
    grid.quantise_in_training(torch.rand(100).softmax(0)).square().sum().backward()
    assert grid.ceiling.grad == 0


def test_training_through_the_table_puts_out_what_is_evaluated() -> None:
    x = torch.rand(200)
    forms: dict[Gradient, AdaptiveLog] = {
        gradient: AdaptiveLog(3, ONE, number(20.0), gradient=gradient) for gradient in ("table", "log")
    }
    assert torch.equal(forms["table"].quantise_in_training(x), forms["table"](x))
    assert torch.equal(forms["log"](x), forms["table"](x))
    assert not torch.equal(forms["log"].quantise_in_training(x), forms["log"](x))


@pytest.mark.parametrize("bias", [True, False])
def test_folding_the_shift_leaves_the_output(bias: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(nn.Linear(12, 5, bias=bias).requires_grad_(False), BitSpec(4, 4), "gelu")
    layer.weight_operand.quantizer = uniform(
        layer.weight.amin(1), layer.weight.amax(1), 4, axis=0, granularity="channel"
    )
    layer.input_operand.quantizer = AdaptiveLog(4, number(2.0), number(30.0), shift=GELU_DEPTH)
    layer.input_operand.on = layer.weight_operand.on = True
    x = nn.functional.gelu(torch.randn(40, 12))
    before = layer(x)
    fold_shift(layer)
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-5)
    assert layer.input_operand.quantizer.grid().min() == 0
