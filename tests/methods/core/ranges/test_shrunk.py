"""Shrunk ranges: the candidates, and the one with the least squared error."""

from __future__ import annotations

import pytest
import torch

from vitptq.methods.core.ranges.estimation import min_max, uniform
from vitptq.methods.core.ranges.shrunk import least_error_range, shrunk


def test_candidates_go_from_the_whole_range_to_eleven_hundredths() -> None:
    lows, highs = shrunk(torch.tensor([-2.0, 0.0]), torch.tensor([1.0, 3.0]))
    assert lows.shape == highs.shape == (2, 90)
    assert (lows[0, 0].item(), highs[1, 0].item()) == (-2.0, 3.0)
    assert (highs[0, 1].item(), lows[0, -1].item()) == (pytest.approx(0.99), pytest.approx(-0.22))


@pytest.mark.parametrize("bits", [2, 4])
def test_the_range_of_least_error_is_that_of_a_loop(bits: int) -> None:
    x = torch.randn(3, 400, generator=torch.Generator().manual_seed(4)) ** 3
    lows, highs = shrunk(*min_max(x))
    low, high = least_error_range(x, bits)
    for row in range(3):
        errors = [
            (uniform(a[None], b[None], bits)(x[row]) - x[row]).square().sum()
            for a, b in zip(lows[row], highs[row], strict=True)
        ]
        best = int(torch.stack(errors).argmin())
        assert (low[row], high[row]) == (lows[row, best], highs[row, best])
        assert best > 0  # heavy tails: the whole range is not the best
