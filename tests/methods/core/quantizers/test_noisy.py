"""A fixed vector in front of a grid."""

from __future__ import annotations

import torch

from vitptq.methods.core.quantizers.noisy import Noisy, symmetric


def test_noise_of_zero_is_the_grid_itself() -> None:
    x = torch.linspace(-3, 3, 60).reshape(5, 12)
    base = symmetric(4, torch.tensor(0.3))
    assert torch.equal(Noisy(base, torch.zeros(12))(x), base(x))


def test_noise_is_added_per_channel_and_what_comes_out_is_on_the_grid() -> None:
    base = symmetric(2, torch.tensor(1.0))
    noisy = Noisy(base, torch.tensor([0.0, 0.4, -1.0]))
    out = noisy(torch.tensor([[0.3, 0.3, 0.3], [5.0, -5.0, 0.9]]))
    assert torch.equal(out, torch.tensor([[0.0, 1.0, -1.0], [1.0, -2.0, 0.0]]))
    assert noisy.grid().tolist() == [[-2.0, -1.0, 0.0, 1.0]]


def test_gradient_passes_inside_the_range() -> None:
    x = torch.tensor([0.3, 9.0], requires_grad=True)
    Noisy(symmetric(4, torch.tensor(0.5)), torch.zeros(2))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 0.0]
