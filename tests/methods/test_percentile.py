"""Percentile: where the moving average starts."""

from __future__ import annotations

import pytest
import torch

from vitptq.methods.percentile import MovingPercentile


def test_moving_percentile_starts_at_the_first_batch() -> None:
    observer = MovingPercentile(0.9, 0.01)
    x = torch.arange(101.0)[None]
    observer.see(x, bits=4, last=True)
    assert observer.range()[0].item() == pytest.approx(10)
    assert observer.range()[1].item() == pytest.approx(90)
