"""Twin uniform quantizers: values by hand, the number of levels, the gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vitptq.methods.core.quantizers.twin_uniform import TwinGelu, TwinSoftmax


@pytest.mark.parametrize(
    ("x", "expected"), [(0.0, 0.0), (0.05, 1 / 28), (0.2, 6 / 28), (0.25, 0.25), (0.3, 2 / 7), (1.0, 1.0), (1.4, 1.0)]
)
def test_exclusive_twin_softmax_by_hand(x: float, expected: float) -> None:
    quantizer = TwinSoftmax(4, 2)  # split 1/4, 7 steps: 1/28 below, 1/7 above
    assert quantizer(torch.tensor([x])).item() == pytest.approx(expected)


def test_released_twin_softmax_adds_the_split() -> None:
    values = TwinSoftmax(8, 3, form="sum")(torch.tensor([0.0, 0.5, 1.0]))
    assert values.tolist() == pytest.approx([0.126, 0.629, 1.125], abs=1e-3)  # measured on the released class


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", ["exclusive", "sum"])
def test_twin_softmax_puts_out_at_most_two_to_the_bits_values_all_on_its_grid(bits: int, form: Any) -> None:
    x = torch.cat([torch.linspace(0, 1, 20_001), torch.rand(5000) ** 6])
    for exponent in range(20):
        quantizer = TwinSoftmax(bits, exponent, form=form)
        grid = quantizer.grid()[0]
        assert (grid.diff() > 0).all() and len(grid) <= 2**bits
        assert set(quantizer(x).tolist()) <= set(grid.tolist())


def test_exclusive_twin_softmax_is_within_half_a_step() -> None:
    x = torch.rand(20_000) ** 3
    for exponent in range(8):
        error = (TwinSoftmax(6, exponent)(x) - x).abs()
        low = x <= 2.0**-exponent
        assert (error[low] <= 2.0**-exponent / 62 + 1e-7).all()
        assert (error[~low] <= 1 / 62 + 1e-7).all()


def test_twin_gelu_by_hand() -> None:
    quantizer = TwinGelu(3, torch.tensor(0.5))  # 0, .5, 1, 1.5 and four steps down to the minimum of GELU
    x = torch.tensor([-0.17, -0.06, 0.0, 0.3, 0.8, 7.0])
    step = 0.16997124 / 4
    assert quantizer(x).tolist() == pytest.approx([-4 * step, -step, 0, 0.5, 1.0, 1.5])
    grid = quantizer.grid()[0]
    assert len(grid) == 8 and (grid.diff() > 0).all()
    x = nn.functional.gelu(torch.randn(5000))
    assert set(quantizer(x).tolist()) <= set(grid.tolist())


def test_gradient_passes_through_the_twins() -> None:
    x = torch.tensor([-0.1, 0.3, 9.0], requires_grad=True)
    TwinGelu(3, torch.tensor(0.5))(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 1, 0]
    x = torch.tensor([0.1, 0.9], requires_grad=True)
    TwinSoftmax(4, 2)(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 1]
