"""Values on a grid: which groups are slices, what a sample sees, and what shares a storage."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor

from tests.bench.planted import RangePerToken
from vitptq.bench.run.on_grid import Levels, covers, levels
from vitptq.methods.core.quantizers.log import LogSqrt2
from vitptq.methods.core.quantizers.row_maximum import RowMaximum
from vitptq.methods.core.quantizers.token_uniform import TokenUniform
from vitptq.methods.core.quantizers.uniform import Uniform


def per_channel(axis: int, channels: int) -> Uniform:
    scale = torch.linspace(0.1, 0.3, channels)
    return Uniform(4, scale, torch.full((channels,), 8.0), axis=axis, granularity="channel")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_along_any_axis_are_groups(axis: int) -> None:
    quantizer = per_channel(axis, 6)
    output = quantizer(torch.randn(6, 6, 6))
    found = levels(output, quantizer, quantizer.grid())
    assert not found.off_grid
    assert 8 < found.used <= found.available == 16


@pytest.mark.parametrize(
    "quantizer", [Uniform(4, torch.tensor(0.2), torch.tensor(8.0)), LogSqrt2(4, torch.tensor(1.0))]
)
def test_one_value_beside_the_grid_is_found(quantizer: Uniform | LogSqrt2) -> None:
    output = quantizer(torch.rand(4, 8))
    assert not levels(output, quantizer, quantizer.grid()).off_grid
    output[2, 3] += 0.01
    assert levels(output, quantizer, quantizer.grid()).off_grid


def test_value_that_is_no_number_is_off_the_grid() -> None:
    quantizer = Uniform(4, torch.tensor(0.2), torch.tensor(8.0))
    output = quantizer(torch.rand(4, 8))
    output[0, 0] = torch.nan
    assert levels(output, quantizer, quantizer.grid()).off_grid


def test_grid_per_image_and_token_is_for_dynamic_ranges_alone() -> None:
    quantizer = RangePerToken(Uniform(4, torch.tensor(0.2), torch.tensor(8.0)))
    output = quantizer(torch.randn(2, 5, 64))
    assert levels(output, quantizer, quantizer.grid()).off_grid
    assert not levels(output, quantizer, quantizer.grid(), dynamic=True).off_grid


@pytest.mark.parametrize("axes", [(1, 2), (1, 3), (2, 3)])
def test_grid_per_head_and_token_leaves_images_and_channels_together(axes: tuple[int, int]) -> None:
    sizes = tuple((3, 4, 5, 6)[axis] for axis in axes)
    scale = torch.linspace(0.1, 0.3, sizes[0] * sizes[1])
    quantizer = TokenUniform(4, scale, torch.full_like(scale, 8.0), axes=axes, sizes=sizes)
    output = quantizer(torch.randn(3, 4, 5, 6))
    assert not levels(output, quantizer, quantizer.grid()).off_grid
    output[1, 2, 3, 4] += 0.01
    assert levels(output, quantizer, quantizer.grid()).off_grid


@pytest.mark.parametrize(("shape", "axes"), [((3, 4, 5), (1, 2)), ((3, 4, 5, 6), (0, 1)), ((3, 4, 5, 6), (1, 2, 3))])
def test_grids_that_leave_no_second_axis_together_are_none(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    sizes = tuple(shape[axis] for axis in axes)
    scale = torch.linspace(0.1, 0.3, prod(sizes))
    quantizer = TokenUniform(4, scale, torch.full_like(scale, 8.0), axes=axes, sizes=sizes)
    output = quantizer(torch.randn(shape))
    assert levels(output, quantizer, quantizer.grid()).off_grid


def test_sample_meets_every_channel() -> None:
    quantizer = Uniform(4, torch.tensor(0.2), torch.tensor(8.0))
    output = quantizer(torch.randn(64, 32, 16))
    output[:, :, 5] += 0.05  # one channel of 16
    assert levels(output, quantizer, quantizer.grid(), sample=256).off_grid


def test_empty_tensor_has_no_levels() -> None:
    quantizer = Uniform(4, torch.tensor(0.2), torch.tensor(8.0))
    assert levels(torch.zeros(0, 8), quantizer, quantizer.grid()) == Levels(0, 16, off_grid=False)


@pytest.mark.parametrize(
    ("read", "covered"),
    [
        (lambda both: both[0], True),
        (lambda both: both[0].T, True),
        (lambda both: both[0, 1:, ::2], True),
        (lambda both: both[0, :1].expand(4, 8), True),
        (lambda both: both[1], False),
        (lambda both: both[:, 0], False),
        (lambda both: both[0].view(torch.int32), False),
    ],
)
def test_only_what_was_put_out_covers_what_is_read(read: object, covered: bool) -> None:
    both: Tensor = torch.randn(2, 4, 8)
    assert callable(read)
    assert covers(both[0], read(both)) == covered


def test_neighbours_a_last_place_apart_are_told_apart() -> None:
    second = torch.linspace(0.4, 0.45, 64)
    top = second.nextafter(torch.tensor(1.0))  # the middle of both rounds to either
    quantizer = RowMaximum(4)
    output = quantizer(torch.stack([second, top, second / 3], dim=1).reshape(2, 4, 8, 3))
    assert not levels(output, quantizer, quantizer.grid(), dynamic=True).off_grid
