"""Percentile ranges of least squared error: what is chosen, and constant channels."""

from __future__ import annotations

import pytest
import torch

from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.percentile_error import least_error_affine, least_error_log_sqrt2


def test_chosen_percentile_has_the_least_error_in_every_row() -> None:
    rows = torch.randn(6, 4000).sinh()
    percentiles = (0.999, 0.9999, 0.99999)
    best = least_error_affine(rows, 4, percentiles)
    error = (Uniform(4, *best, axis=0)(rows) - rows).square().mean(1)
    for fraction in percentiles:
        alone = least_error_affine(rows, 4, (fraction,))
        assert (error <= (Uniform(4, *alone, axis=0)(rows) - rows).square().mean(1) + 1e-12).all()


@pytest.mark.parametrize("constant", [0.5, -0.5, 1e-3, 0.0])
def test_constant_channel_does_not_spoil_the_others(constant: float) -> None:
    rows = torch.randn(8, 1000)
    rows[3] = constant
    scale, zero = least_error_affine(rows, 4, (0.999, 0.99999))
    assert ((zero >= 0) & (zero <= 15)).all()
    assert (Uniform(4, scale, zero, axis=0)(rows)[3] - constant).abs().max() < 1e-6


def test_softmax_ceiling_is_one_of_the_percentiles() -> None:
    x = torch.softmax(torch.randn(2, 4, 50, 50, generator=torch.Generator().manual_seed(1)) * 4, dim=-1)
    quantizer = least_error_log_sqrt2(x, 4, (0.999, 0.9999), "last")
    choices = x.flatten().quantile(torch.tensor([0.999, 0.9999]))
    assert min((quantizer.ceiling / choice - 1).abs().item() for choice in choices) < 1e-5
