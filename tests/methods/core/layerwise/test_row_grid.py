"""The grid of the rows of a weight matrix."""

from __future__ import annotations

import torch

from vitptq.methods.core.layerwise.row_grid import RowGrid
from vitptq.methods.core.ranges.estimation import min_max, uniform


def test_nearest_is_what_the_quantizer_puts_out() -> None:
    weight = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    quantizer = uniform(*min_max(weight), 3, axis=0, granularity="channel")
    found = RowGrid.of(quantizer, 2, 1).nearest(weight.double().reshape(2, 3, 10))
    assert torch.equal(found.float().reshape(6, 10), quantizer(weight))


def test_rows_of_one_channel_share_its_grid() -> None:
    quantizer = uniform(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0]), 2, axis=0, granularity="channel")
    grid = RowGrid.of(quantizer, 1, 3)
    assert grid.scale[0, :, 0].tolist() == [quantizer.scale[0]] * 3 + [quantizer.scale[1]] * 3
