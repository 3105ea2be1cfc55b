"""Rounding behind the zero point: the grid of the plain uniform quantizer, and the other side of ties."""

from __future__ import annotations

import torch

from vitptq.methods.core.quantizers.rounded_code import RoundedCode
from vitptq.methods.core.quantizers.uniform import Uniform

STEP = torch.tensor([0.5])


def test_ties_go_to_the_even_code_and_not_to_the_even_quotient() -> None:
    x = torch.tensor([0.25, 0.75])  # quotients 0.5 and 1.5
    odd = torch.tensor([3.0])
    assert Uniform(4, STEP, odd)(x).tolist() == [0.0, 1.0]
    assert RoundedCode(4, STEP, odd)(x).tolist() == [0.5, 0.5]


def test_other_values_are_rounded_as_by_the_plain_quantizer() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    for zero in (0.0, 7.0):
        plain, ours = (kind(4, STEP, torch.tensor([zero]))(x) for kind in (Uniform, RoundedCode))
        assert torch.equal(plain, ours)


def test_gradient_goes_straight_through() -> None:
    x = torch.randn(5, requires_grad=True)
    RoundedCode(4, STEP, torch.tensor([7.0]))(x).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.ones(5))
