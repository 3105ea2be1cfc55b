"""The largest value of each row stays in float, the others lie on their row's grid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitptq.bench.run.on_grid import levels
from vitptq.methods.core.quantizers.row_maximum import RowMaximum


def probabilities(rows: int = 50, columns: int = 65) -> Tensor:
    scores = 2 * torch.randn(2, 3, rows, columns, generator=torch.Generator().manual_seed(0))
    return scores.softmax(-1)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_the_largest_is_kept_bit_by_bit_and_the_rest_lies_on_multiples_of_a_scale(bits: int) -> None:
    p = probabilities()
    found = RowMaximum(bits)(p)
    top, place = p.max(-1, keepdim=True)
    assert torch.equal(found.gather(-1, place), top)
    second = p.scatter(-1, place, 0).amax(-1, keepdim=True)
    codes = found.scatter(-1, place, 0) / (second / (2**bits - 1))
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)
    assert codes.round().amax() == 2**bits - 1


def test_a_scaled_tensor_gives_the_scaled_result() -> None:
    p = probabilities()
    assert torch.equal(RowMaximum(4)(p / 4), RowMaximum(4)(p) / 4)


def test_a_row_with_a_single_value_above_0_stays_finite() -> None:
    p = torch.zeros(1, 1, 2, 5)
    p[..., 3] = 1.0
    assert torch.equal(RowMaximum(4)(p), p)


def test_every_value_is_on_the_grid_that_it_names_with_one_more_than_the_bits_allow() -> None:
    quantizer, p = RowMaximum(4), probabilities()
    found = levels(quantizer(p), quantizer, quantizer.grid(), dynamic=True)
    assert not found.off_grid
    assert found.available == 2**4 + quantizer.float_values


def test_less_is_lost_than_on_one_grid_for_all_rows() -> None:
    p = probabilities()
    plain = (p / (p.amax() / 15)).round() * (p.amax() / 15)
    assert (RowMaximum(4)(p) - p).square().sum() < 0.2 * (plain - p).square().sum()
