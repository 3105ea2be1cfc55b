"""Two steps in one code: no more values than the bits allow, each value on the nearer range, and m = 0."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitptq.methods.core.quantizers.two_scale import Regions, TwoScale, two_scale
from vitptq.methods.core.quantizers.uniform import Uniform

LOW, HIGH = torch.tensor(-0.17), torch.tensor(4.1)


def values() -> Tensor:
    return torch.cat([torch.linspace(-0.5, 5, 4001), torch.linspace(-0.2, 0.2, 1001)])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("regions", ["magnitude", "sign"])
def test_there_are_at_most_two_to_the_bits_values_and_all_outputs_are_among_them(bits: int, regions: Regions) -> None:
    for shift in range(8):
        quantizer = two_scale(LOW, HIGH, bits, shift, regions=regions)
        (grid,), found = quantizer.grid(), quantizer(values()).unique()
        assert len(grid) <= 2**bits
        assert torch.isin(found, grid).all()


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_without_a_shift_it_is_a_plain_grid_of_one_bit_less(bits: int) -> None:
    quantizer = two_scale(LOW, HIGH, bits, 0)
    plain = Uniform(bits - 1, quantizer.scale, quantizer.zero)
    assert torch.equal(quantizer(values()), plain(values()))
    assert torch.equal(quantizer.grid()[0].unique(), plain.grid()[0].unique())


@pytest.mark.parametrize("regions", ["magnitude", "sign"])
def test_the_coarse_step_is_a_power_of_two_times_the_fine_one(regions: Regions) -> None:
    quantizer = two_scale(LOW, HIGH, 4, 3, regions=regions)
    steps = quantizer.grid()[0].diff()
    torch.testing.assert_close(steps[-1] / steps[0], torch.tensor(8.0))


def test_small_values_have_the_fine_step_and_large_ones_the_coarse_one_by_hand() -> None:
    quantizer = two_scale(torch.tensor(0.0), torch.tensor(7.0), 4, 2)  # fine: 0, 0.25 .. 1.75, coarse: 2 .. 7
    x = torch.tensor([0.0, 0.3, 1.7, 1.86, 1.9, 2.6, 9.0])
    torch.testing.assert_close(quantizer(x), torch.tensor([0.0, 0.25, 1.75, 1.75, 2.0, 3.0, 7.0]))


def test_the_sign_form_has_fine_negative_and_coarse_positive_values() -> None:
    quantizer = two_scale(LOW, torch.tensor(3.5), 4, 4, regions="sign")
    negative, positive = quantizer.grid()[0].clamp_max(0).unique(), quantizer.grid()[0].clamp_min(0).unique()
    torch.testing.assert_close(positive, torch.arange(8) * 0.5)
    torch.testing.assert_close(negative, (torch.arange(8) - 7) * 0.5 / 16)


def test_the_gradient_is_one_inside_the_range_and_nought_outside() -> None:
    quantizer = two_scale(LOW, HIGH, 4, 2)
    x = torch.tensor([-3.0, 0.1, 2.0, 9.0], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 0]


def test_a_constant_tensor_gets_a_grid() -> None:
    nought = torch.tensor(0.0)
    assert isinstance(two_scale(nought, nought, 4, 3), TwoScale)
    assert two_scale(nought, nought, 4, 3)(torch.zeros(3)).tolist() == [0, 0, 0]
