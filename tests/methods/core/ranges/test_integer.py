"""Calibration of integer LayerNorm: power-of-two factors."""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.integer import (
    rounded,
)
from vitptq.methods.core.ranges.estimation import asymmetric_parameters
from vitptq.methods.core.ranges.integer import power_of_two_factors


def wide_channels() -> Tensor:
    """Return (tokens, channels) of which the widest is many times the narrowest."""
    torch.manual_seed(3)
    return torch.randn(400, 24) * torch.logspace(-2, 1, 24) + torch.randn(24)


def parameters(x: Tensor, bits: int = 8) -> tuple[Tensor, Tensor]:
    return asymmetric_parameters(x.amin().reshape(1), x.amax().reshape(1), bits)


def test_factors_are_those_of_a_loop() -> None:
    x = wide_channels()
    base, zero = parameters(x)
    factors = power_of_two_factors(x.T, base, zero, 8)
    assert set(factors.tolist()) == {0, 1, 2, 3}
    for channel in range(24):
        errors = []
        for k in range(4):
            step = base / 8 * 2**k
            back = (((x[:, channel] / step).round() + zero).clamp(0, 255) - zero) * step
            errors.append((back - x[:, channel]).square().mean())
        assert factors[channel] == torch.stack(errors).argmin()


def test_largest_factor_in_all_channels_is_min_max_per_tensor() -> None:
    x = wide_channels()
    base, zero = parameters(x)
    whole = ((x / base).round() + zero).clamp(0, 255) - zero
    torch.testing.assert_close(rounded(x, base / 8 * 2**3, zero, 8), whole * base)
