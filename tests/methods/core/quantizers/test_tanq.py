"""TanQ: its codes by hand, and its limits."""

from __future__ import annotations

import math

import pytest
import torch

from vitptq.methods.core.quantizers.tanq import TanQ
from vitptq.methods.core.ranges.attention_grids import SHARES


@pytest.mark.parametrize("reading", ["A", "C"])
@pytest.mark.parametrize("bits", [3, 8])
def test_the_tangents_begin_at_nought_and_end_at_the_ceiling(reading, bits: int) -> None:
    for share in SHARES:
        grid = TanQ(bits, 0.7, share * (math.pi if reading == "A" else math.pi / 2), reading)
        assert grid.codes(torch.tensor([0.0, 0.7, 5.0, -5.0])).tolist() == [0, 2**bits - 1, 2**bits - 1, 0]
        assert grid(torch.tensor([0.0, 5.0])).tolist() == pytest.approx([0, 0.7])
        assert torch.equal(grid.codes(grid.table), torch.arange(2**bits, dtype=torch.int32))


@pytest.mark.parametrize("reading", ["A", "C"])
def test_a_small_angle_is_the_uniform_grid(reading) -> None:
    even = torch.linspace(0, 0.5, 16)
    assert (TanQ(4, 0.5, 0.01, reading).table - even).abs().max() < 1e-3 * 0.5
    assert (TanQ(4, 0.5, 1.5, reading).table - even).abs().max() > 1e-2 * 0.5


def test_reading_a_is_symmetric_and_reading_c_is_not() -> None:
    x = torch.linspace(0.001, 0.499, 300)
    two_ended, one_ended = TanQ(4, 0.5, 2.5, "A"), TanQ(4, 0.5, 1.4, "C")
    torch.testing.assert_close(two_ended(0.5 - x), 0.5 - two_ended(x), rtol=0, atol=1e-6)
    assert (one_ended(0.5 - x) - (0.5 - one_ended(x))).abs().max() > 0.01
    assert one_ended.table.diff()[0] < one_ended.table.diff()[-1] / 4


def test_tangent_by_hand() -> None:
    # theta = pi / 2: k = 1, so code 1 of 3 is 1/2 + atan(-1/3) / (pi / 2)
    assert TanQ(2, 1.0, math.pi / 2, "A").table[1].item() == pytest.approx(0.5 - math.atan(1 / 3) / (math.pi / 2))
    # theta = pi / 4: k = 1, so code 1 of 3 is tan(pi / 12)
    assert TanQ(2, 1.0, math.pi / 4, "C").table[1].item() == pytest.approx(math.tan(math.pi / 12))
