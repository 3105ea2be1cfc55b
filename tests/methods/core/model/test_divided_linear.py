"""Dividing a layer's input leaves the float function."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.divided_linear import divide_input
from vitptq.methods.core.model.operands import Linear


def layer() -> Linear:
    torch.manual_seed(0)
    plain = nn.Linear(6, 4).double()
    plain.requires_grad_(False)
    return Linear(plain, BitSpec(4, 4))


def test_the_float_function_stays() -> None:
    linear, x = layer(), torch.randn(3, 5, 6, dtype=torch.float64)
    expected = linear(x)
    divide_input(linear, torch.linspace(1, 50, 6, dtype=torch.float64))
    torch.testing.assert_close(linear(x), expected, rtol=1e-12, atol=1e-12)


def test_the_slot_sees_the_divided_input() -> None:
    linear, seen = layer(), []
    divide_input(linear, torch.full((6,), 2.0, dtype=torch.float64))
    linear.input_operand.watcher = lambda _, x: seen.append(x)
    linear(torch.full((1, 6), 3.0, dtype=torch.float64))
    assert (seen[0] == 1.5).all()


def test_a_second_division_is_refused() -> None:
    linear = layer()
    divide_input(linear, torch.ones(6))
    with pytest.raises(AssertionError, match="divided already"):
        divide_input(linear, torch.ones(6))
