"""Calling an autograd function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.autograd import applied


class Doubled(torch.autograd.Function):
    """Doubles, with a gradient of 5."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * 5


def test_the_functions_own_gradient_reaches_its_argument() -> None:
    x = torch.tensor([1.0, 3.0], requires_grad=True)
    out = applied(Doubled, x)
    out.sum().backward()
    assert out.tolist() == [2.0, 6.0]
    assert x.grad is not None and x.grad.tolist() == [5.0, 5.0]
