"""EMA: the moving average by hand."""

from __future__ import annotations

import pytest
import torch

from vitptq.methods.ema import MovingAverage


def test_moving_average_by_hand() -> None:
    observer = MovingAverage(0.01)
    for batch in ([-1.0, 2.0], [-3.0, 12.0]):
        observer.see(torch.tensor([batch]), bits=4, last=False)
    low, high = observer.range()
    assert low.item() == pytest.approx(-1.02)
    assert high.item() == pytest.approx(2.1)
