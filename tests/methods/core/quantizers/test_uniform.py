"""Quantizers against hand-computed values, torch's kernels and their own grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitptq.bench.contracts.quantizer import kept_weights
from vitptq.methods.core.quantizers.log import LogSqrt2
from vitptq.methods.core.quantizers.uniform import Uniform, on_grid
from vitptq.methods.core.ranges.estimation import min_max, symmetric_parameters, uniform


def covering(x: torch.Tensor, bits: int, **options: object) -> Uniform:
    return uniform(*min_max(x.reshape(1, -1)), bits, **options)  # type: ignore[arg-type]


def test_two_bit_min_max_by_hand() -> None:
    x = torch.tensor([-1.0, 0.0, 3.0])
    q = covering(x, 2)
    assert q.scale.item() == pytest.approx(4 / 3)
    assert q.zero_point.item() == 1
    torch.testing.assert_close(q(x), torch.tensor([-4 / 3, 0.0, 8 / 3]))


@pytest.mark.parametrize("constant", [0.0, 5.0, -2.0])
def test_constant_tensor_is_kept_within_half_a_step(constant: float) -> None:
    x = torch.full((10,), constant)
    q = covering(x, 4)
    assert (q(x) - x).abs().max() <= q.scale.item() / 2 + 1e-7


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_values_lie_on_a_grid_of_two_to_the_bits(bits: int, signed: bool) -> None:
    x = torch.randn(4000)
    q = covering(x, bits, symmetric=signed)
    grid = q.grid()
    assert grid.shape == (1, 2**bits)
    assert set(q(x).tolist()) <= set(grid[0].tolist())


def test_error_inside_the_range_is_at_most_half_a_step() -> None:
    x = torch.randn(4000)
    q = covering(x, 4)
    low, high = q.grid()[0, 0], q.grid()[0, -1]
    inside = (x >= low) & (x <= high)
    assert (q(x) - x)[inside].abs().max() <= q.scale.item() / 2 + 1e-6


def test_quantised_values_keep_the_order_and_zero_is_exact() -> None:
    x = torch.randn(1000).sort().values
    q = covering(x, 4)
    assert (q(x).diff() >= 0).all()
    assert q(torch.zeros(1)).item() == 0


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_per_tensor_equals_torchs_kernel_bit_for_bit(bits: int) -> None:
    x = torch.cat([torch.randn(5000), torch.arange(-40, 40) * 0.25])
    q = covering(x, bits)
    zero = q.zero_point.to(torch.int32)
    assert torch.equal(q(x), torch.fake_quantize_per_tensor_affine(x, q.scale, zero, q.low, q.high))


def test_per_channel_equals_torchs_kernel_bit_for_bit() -> None:
    x = torch.randn(8, 50) * torch.arange(1, 9)[:, None]
    q = uniform(*min_max(x), 4, axis=0, granularity="channel")
    kernel = torch.fake_quantize_per_channel_affine(x, q.scale, q.zero_point.to(torch.int32), 0, q.low, q.high)
    assert torch.equal(q(x), kernel)


@pytest.mark.parametrize(("axis", "granularity", "groups"), [(1, "head", 3), (-2, "token", 5), (-1, "channel", 7)])
def test_each_group_has_its_own_grid(axis: int, granularity: str, groups: int) -> None:
    x = torch.randn(2, 3, 5, 7)
    by_group = x.movedim(axis, 0).flatten(1)
    q = uniform(*min_max(by_group), 3, axis=axis, granularity=granularity)  # type: ignore[arg-type]
    expected = torch.stack([covering(part, 3)(part) for part in by_group])
    torch.testing.assert_close(q(x).movedim(axis, 0).flatten(1), expected)
    assert q.grid().shape == (groups, 8)
    assert q.granularity == granularity


def test_gradient_passes_inside_the_range_and_stops_where_clipped() -> None:
    x = torch.tensor([-3.0, 0.2, 0.9, 3.0], requires_grad=True)
    q = Uniform(4, torch.tensor(0.1), torch.tensor(5.0))  # covers -0.5 .. 1.0
    q(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("axis", [None, 0])
def test_output_has_the_type_of_the_input(dtype: torch.dtype, axis: int | None) -> None:
    x = torch.randn(3, 8).to(dtype)
    count = 1 if axis is None else 3
    assert Uniform(4, torch.full((count,), 0.1), torch.full((count,), 8.0), axis=axis)(x).dtype == dtype
    assert LogSqrt2(4, torch.tensor(1.0))(x.abs()).dtype == dtype


def test_nan_stays_nan() -> None:
    x = torch.tensor([float("nan"), 1.0])
    assert Uniform(4, torch.tensor(0.1), torch.tensor(8.0))(x).isnan().tolist() == [True, False]


def test_fractional_zero_point_is_reported_as_one_value_more() -> None:
    q = Uniform(4, torch.tensor(0.1), torch.tensor(7.3))
    assert len(q.grid().unique()) == 17
    x = torch.linspace(-2, 2, 4001)
    distances = (q(x)[:, None] - q.grid()[0]).abs().amin(1)
    assert distances.max() < 1e-6


def test_symmetric_scale_divides_by_half_the_code_range() -> None:
    scale, zero = symmetric_parameters(torch.tensor([-1.0]), torch.tensor([2.0]), 8)
    assert scale.item() == pytest.approx(2 / 127.5)
    assert zero.item() == 0


def test_a_parameter_is_quantised_once_while_weights_are_kept() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4), requires_grad=False)
    q = covering(weight.detach(), 4)
    with kept_weights():
        first = q(weight)
        assert q(weight) is first
    weight.data.mul_(0.5)
    assert not torch.equal(q(weight), first)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_largest_weight_of_a_symmetric_channel_rounds_as_its_quotient(bits: int) -> None:
    rows = torch.randn(500, 40)
    scale, zero = symmetric_parameters(*min_max(rows), bits)
    quantizer = Uniform(bits, scale, zero, axis=0, granularity="channel", signed=True)
    steps = np.divide(rows.numpy(), scale.numpy()[:, None], dtype=np.float32)  # the largest is on a tie: 2^(b-1) - 0.5
    codes = np.clip(np.rint(steps), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert torch.equal(quantizer.codes(rows), torch.from_numpy(codes))
    assert torch.equal(quantizer(rows), torch.from_numpy(codes) * scale[:, None])
    assert torch.equal(on_grid(rows, scale[:, None], quantizer.low, quantizer.high), quantizer(rows))
