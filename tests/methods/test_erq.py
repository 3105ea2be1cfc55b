"""ERQ: its two regressions, and the moves between them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import BadInput
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.layerwise.row_grid import RowGrid
from vitptq.methods.core.model.operands import Layer, Linear
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.estimation import min_max, uniform
from vitptq.methods.erq import ERQ, RoundedMoments, aqer, moved, rounded_by_halves, with_bias

INPUTS, OUTPUTS = 9, 5


def layer_and_inputs() -> tuple[Linear, Tensor]:
    """Return a layer with a coarse grid in front, and what it reads, (tokens, inputs), in float64."""
    torch.manual_seed(0)
    layer = Linear(nn.Linear(INPUTS, OUTPUTS).double(), BitSpec(3, 3))
    x = torch.randn(80, INPUTS, dtype=torch.float64) @ torch.randn(INPUTS, INPUTS, dtype=torch.float64)
    layer.input_operand.quantizer = uniform(*min_max(x.float().reshape(1, -1)), 3)
    layer.input_operand.on = True
    return layer.requires_grad_(requires_grad=False), x


def problem() -> tuple[Tensor, Tensor, RowGrid]:
    """Return weight and bias as a matrix, the moments of its inputs, and the weight's grid."""
    layer, x = layer_and_inputs()
    moments = RoundedMoments.over(layer, [x])
    assert moments is not None
    rows = layer.weight.float()
    return with_bias(layer), moments.gram, RowGrid.of(uniform(*min_max(rows), 3, axis=0, granularity="channel"), 1, 1)


def output_error(theta: Tensor, layer: Linear, x: Tensor) -> Tensor:
    rounded = nn.functional.pad(layer.input_operand(x), (0, 1), value=1.0)
    return (rounded @ theta[0].T - nn.functional.linear(x, layer.weight, layer.bias)).square().sum()


def test_regression_on_rounded_inputs_is_that_of_least_squares() -> None:
    layer, x = layer_and_inputs()
    moments, theta = RoundedMoments.over(layer, [x]), with_bias(layer)
    assert moments is not None
    a = nn.functional.pad(layer.input_operand(x), (0, 1), value=1.0)
    expected = torch.linalg.lstsq(a, nn.functional.linear(x, layer.weight, layer.bias)).solution.T
    torch.testing.assert_close((theta + aqer(theta, moments, 1e-14))[0], expected, rtol=1e-8, atol=1e-8)


def test_regression_lowers_the_output_error_the_more_the_weaker_the_ridge() -> None:
    layer, x = layer_and_inputs()
    moments, theta = RoundedMoments.over(layer, [x]), with_bias(layer)
    assert moments is not None
    found = [output_error(theta + aqer(theta, moments, ridge), layer, x) for ridge in (1e-6, 0.01, 1.0, 100.0)]
    assert all(weaker < stronger for weaker, stronger in pairwise([*found, output_error(theta, layer, x)]))


def test_inputs_that_are_not_rounded_need_no_correction() -> None:
    layer, x = layer_and_inputs()
    layer.input_operand.on = False
    moments = RoundedMoments.over(layer, [x])
    assert moments is not None
    assert not aqer(with_bias(layer), moments, 0.01).any()


def test_moments_do_not_depend_on_the_batches() -> None:
    layer, x = layer_and_inputs()
    whole, parts = RoundedMoments.over(layer, [x]), RoundedMoments.over(layer, x.split(30))
    assert whole is not None
    assert parts is not None
    torch.testing.assert_close(whole.gram, parts.gram)
    torch.testing.assert_close(whole.lost, parts.lost)


def test_halves_of_two_columns_are_those_by_hand() -> None:
    theta = torch.tensor([[[0.4, 0.7, 0.1]]], dtype=torch.float64)
    gram = torch.tensor([[[2.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 1.0]]], dtype=torch.float64)
    grid = RowGrid.of(Uniform(2, torch.ones(1), torch.ones(1), axis=0, granularity="channel"), 1, 1)  # -1 .. 2
    found = rounded_by_halves(theta, gram, grid, 0.5, 0)
    determinant = 3.5 * 1.5 - 0.2**2
    second = 0.7 + 0.4 * (1.0 * 1.5 - 0.5 * 0.2) / determinant  # behind the first, whose error is -0.4
    bias = 0.1 + 0.4 * (0.5 * 3.5 - 1.0 * 0.2) / determinant
    expected = torch.tensor([0.0, 1.0, bias - (1.0 - second) * 0.2 / 1.5], dtype=torch.float64)
    torch.testing.assert_close(found[0, 0], expected)


def test_halves_put_every_weight_on_its_grid_with_less_output_error() -> None:
    theta, gram, grid = problem()
    found = rounded_by_halves(theta, gram, grid, 1e-6, 100)
    torch.testing.assert_close(grid.nearest(found[:, :, :-1]), found[:, :, :-1])
    nearest = torch.cat([grid.nearest(theta[:, :, :-1]), theta[:, :, -1:]], dim=2)
    ours, plain = (((error @ gram) * error).sum() for error in (found - theta, nearest - theta))
    assert ours < 0.9 * plain


def test_strong_ridge_leaves_rounding_to_nearest() -> None:
    theta, gram, grid = problem()
    found = rounded_by_halves(theta, gram, grid, 1e9, 0)
    torch.testing.assert_close(found[:, :, :-1], grid.nearest(theta[:, :, :-1]))


def test_no_move_makes_a_row_worse_and_all_stay_neighbours() -> None:
    theta, gram, grid = problem()
    weight, gram = theta[:, :, :-1], gram[:, :-1, :-1]
    start = grid.nearest(weight) - weight
    errors = [moved(start, weight, gram, grid, moves) for moves in range(8)]
    costs = [((error @ gram) * error).sum(2) for error in errors]
    assert all((after <= before + 1e-12).all() for before, after in pairwise(costs))
    assert costs[-1].sum() < costs[0].sum()
    assert ((errors[-1] - start).abs() <= grid.scale * (1 + 1e-9)).all()


@pytest.mark.parametrize("activations", [4, 32])
def test_every_weight_of_a_model_is_on_its_grid_as_it_is_stored(activations: int) -> None:
    quantised = ERQ().quantize(two_block_models()["Swin"], RandomImages(), BitSpec(3, activations))
    layers = [module for module in quantised.modules() if isinstance(module, Layer)]
    for layer in layers:
        quantizer = layer.weight_operand.quantizer
        assert quantizer is not None
        torch.testing.assert_close(quantizer(layer.weight), layer.weight)
        assert layer.bias is not None
    assert len(layers) > 8


def test_ridge_of_zero_is_refused() -> None:
    with pytest.raises(BadInput, match="ridge = 0: the regressions need a positive number"):
        ERQ(ridge=0).quantize(two_block_models()["ViT"], RandomImages(), BitSpec(4, 4))
