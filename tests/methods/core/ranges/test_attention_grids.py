"""Grids for attention probabilities: the shift and the angle of least error, and what the tangent is good for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.methods.core.attention_probabilities import probabilities
from vitptq.methods.core.quantizers.lookup_table import LookupTable
from vitptq.methods.core.quantizers.shift_uniform_log2 import covering
from vitptq.methods.core.quantizers.tanq import TanQ
from vitptq.methods.core.ranges.attention_grids import ETAS, least_error_sulq, least_error_tanq


@pytest.mark.parametrize("bits", [3, 4])
def test_the_shift_has_the_least_error_of_all(bits: int) -> None:
    x = probabilities()
    chosen = least_error_sulq(x, bits)
    errors = {eta: (covering(x, bits, eta)(x) - x).square().mean().item() for eta in ETAS}
    assert (chosen(x) - x).square().mean().item() <= min(errors.values()) * (1 + 1e-6)
    assert chosen.eta in ETAS


def product_error(grid: LookupTable, attention: Tensor, values: Tensor) -> float:
    exact = attention @ values
    return ((grid(attention) @ values - exact).norm() / exact.norm()).item()


def test_at_3_bits_both_tangents_beat_the_uniform_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.rand(16, 1, 1, generator=generator) * 1.5 + 0.5
    attention = (torch.randn(16, 197, 197, generator=generator) * spread).softmax(-1)
    values = torch.randn(16, 197, 32, generator=generator)
    even = TanQ(3, attention.max().item(), 1e-3, "C")
    errors = {
        reading: product_error(least_error_tanq(attention, 3, reading), attention, values) for reading in ("A", "C")
    }
    assert max(errors.values()) < product_error(even, attention, values)
    assert errors["C"] < errors["A"]
