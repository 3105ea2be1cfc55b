"""Logarithmic quantizers: the ratio of levels, both ends, and what becomes of 0, negative values and NaN."""

from __future__ import annotations

import pytest
import torch

from vitptq.methods.core.quantizers.log import Log2, LogSqrt2


@pytest.mark.parametrize(("quantizer", "ratio"), [(Log2, 2.0), (LogSqrt2, 2**0.5)])
def test_neighbouring_logarithmic_levels_have_the_ratio_of_the_base(quantizer: type, ratio: float) -> None:
    levels = quantizer(4, torch.tensor(0.8)).grid()[0]
    assert levels[0] == 0
    torch.testing.assert_close(levels[2:] / levels[1:-1], torch.full((14,), ratio))


@pytest.mark.parametrize(("zero_code", "values"), [("last", 8), ("extra", 9)])
def test_logarithmic_zero_costs_a_code_or_is_one_value_more(zero_code: str, values: int) -> None:
    q = LogSqrt2(3, torch.tensor(1.0), zero_code=zero_code)  # type: ignore[arg-type]
    x = torch.rand(5000) ** 6
    assert len(q(x).unique()) == values == q.grid().shape[1]


def test_logarithmic_ends_and_order() -> None:
    q = LogSqrt2(4, torch.tensor(0.5))
    assert q(torch.tensor([0.5, 0.0, 0.9])).tolist() == [0.5, 0.0, 0.5]
    x = torch.rand(1000).sort().values
    assert (q(x).diff() >= 0).all()


def test_logarithmic_takes_negative_values_to_zero_and_keeps_nan() -> None:
    quantised = LogSqrt2(4, torch.tensor(0.5))(torch.tensor([-1.0, float("nan"), 0.5]))
    assert quantised[0] == 0
    assert quantised[1].isnan()
    assert quantised[2] == 0.5
