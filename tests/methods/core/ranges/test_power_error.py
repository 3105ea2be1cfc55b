"""Ranges of least |error|^2.4 with zero points of their own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitptq.methods.core.ranges import power_error
from vitptq.methods.core.ranges.estimation import asymmetric_parameters, min_max
from vitptq.methods.core.ranges.power_error import POWER, least_power_error, least_power_error_within
from vitptq.methods.core.ranges.shrunk import least_error_range


def error(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    scale, zero = (parameter[:, None] for parameter in asymmetric_parameters(low, high, bits))
    codes = ((x / scale).round() + zero).clamp(0, 2**bits - 1)
    return ((codes - zero) * scale - x).abs().pow(POWER).mean(1)


def lopsided() -> Tensor:
    return torch.randn(4, 200, generator=torch.Generator().manual_seed(0)).exp() - 0.5


def test_the_range_errs_less_than_shrunk_ranges_do() -> None:
    x = lopsided()
    ours, shrunk = (error(x, *estimate(x, 3), 3) for estimate in (least_power_error, least_error_range))
    assert (ours <= shrunk * 1.001).all()
    assert (ours < shrunk * 0.99).any()


def test_a_range_without_negative_values_starts_at_0() -> None:
    low, high = least_power_error(lopsided().abs(), 3)
    assert torch.equal(low, torch.zeros(4)) and (high > 0).all()


def test_a_range_without_positive_values_ends_at_0() -> None:
    low, high = least_power_error(-lopsided().abs(), 3)
    assert torch.equal(high, torch.zeros(4)) and (low < 0).all()


def test_rows_in_pieces_get_the_same_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    x = lopsided()
    whole = least_power_error(x, 3)
    monkeypatch.setattr(power_error, "STEP", 1)
    assert all(torch.equal(a, b) for a, b in zip(least_power_error(x, 3), whole, strict=True))


def test_candidates_are_shares_of_the_range_that_the_values_stand_for() -> None:
    x = lopsided()
    low, high = min_max(x)
    found = least_power_error_within(x[:, :50], low, high, 3)
    hundredths = 100 * (found[1] - found[0]) / (high - low)
    torch.testing.assert_close(hundredths, hundredths.round())
