"""Least squares over tokens: orthogonal residuals, R^2, and what a quantised block lacks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.methods.core.search.hybrids import tiny_efficientformerv2
from tests.methods.device_subjects import Images
from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.layerwise.block_regression import RegressionMoments, missing_outputs, regression_halves
from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights


def data(noise: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs (4, 50, 6), what is to be explained (4, 50, 6), and the map in it, [W; c]."""
    generator = torch.Generator().manual_seed(0)
    x, theta = torch.randn(4, 50, 6, generator=generator), torch.randn(7, 6, generator=generator)
    y = x @ theta[:-1] + theta[-1] + noise * torch.randn(4, 50, 6, generator=generator)
    return x, y, theta


def test_the_residual_is_orthogonal_to_the_inputs_and_to_the_ones() -> None:
    x, y, _ = data()
    solution = RegressionMoments.of(x, y).solution()
    a = torch.cat([x, torch.ones(4, 50, 1)], dim=-1).flatten(0, 1).double()
    residual = y.flatten(0, 1).double() - a @ solution
    assert (a.T @ residual).norm() < 1e-4 * (a.T @ y.flatten(0, 1).double()).norm()


def test_without_noise_the_map_is_found_and_explains_everything() -> None:
    x, y, theta = data(noise=0.0)
    moments = RegressionMoments.of(x, y)
    torch.testing.assert_close(moments.solution().float(), theta, rtol=1e-4, atol=1e-4)
    assert moments.explained(moments.solution()) == pytest.approx(1, abs=1e-6)


def test_r_squared_is_that_of_the_definition() -> None:
    x, y, _ = data()
    moments = RegressionMoments.of(x, y)
    solution = moments.solution()
    left = (y - x @ solution[:-1].float() - solution[-1].float()).square().sum()
    around_mean = (y - y.mean(dim=(0, 1))).square().sum()
    assert moments.explained(solution) == pytest.approx(float(1 - left / around_mean), abs=1e-5)


def test_a_map_of_something_else_explains_less_than_nothing() -> None:
    x, y, _ = data()
    other = RegressionMoments.of(x, y.flip(0).roll(1, dims=-1) * 3).solution()
    assert RegressionMoments.of(x, y).explained(other) < 0


def test_channels_that_never_vary_do_no_harm() -> None:
    x, y, _ = data()
    x[..., 2], x[..., 4] = 0.0, 1.0
    assert RegressionMoments.of(x, y).solution().isfinite().all()


@pytest.mark.parametrize("batches", [(4,), (1, 3), (1, 1, 1, 1), (3, 1)])
def test_halves_are_the_even_and_the_odd_images_whatever_the_batches(batches: tuple[int, ...]) -> None:
    x, y, _ = data()
    halves = regression_halves(zip(x.split(batches), y.split(batches), strict=True))
    assert halves is not None
    one, other = halves
    torch.testing.assert_close(one.gram, RegressionMoments.of(x[::2], y[::2]).gram)
    torch.testing.assert_close(other.cross, RegressionMoments.of(x[1::2], y[1::2]).cross)


def test_a_single_image_is_refused() -> None:
    x, y, _ = data()
    with pytest.raises(Unsupported, match="needs two or more"):
        regression_halves([(x[:1], y[:1])])


def test_no_image_gives_no_halves() -> None:
    assert regression_halves([]) is None


def test_maps_with_their_channels_in_front_are_left_out() -> None:
    net, twin = (prepare(tiny_efficientformerv2(), BitSpec(8, 8)) for _ in range(2))
    name = next(name for name, block in net.blocks() if any(isinstance(part, MatMul) for part in block.modules()))
    assert list(missing_outputs(net, twin, Images(64, torch.device("cpu")), name)) == []


def quantised() -> tuple[PreparedModel, PreparedModel]:
    net = prepare(two_block_models()["ViT"], BitSpec(4, 4))
    observe_weights(net)
    observe_activations(net, RandomImages(), RunningMinMax)
    return net, net.twin()


def test_nothing_is_missing_with_the_quantizers_off() -> None:
    net, twin = quantised()
    net.switch(False)
    ((_, lost),) = missing_outputs(net, twin, RandomImages(), "blocks.1")
    assert not lost.any()


def test_only_the_blocks_own_error_is_missing() -> None:
    net, twin = quantised()
    for name, slot in net.operands.items():
        slot.on = name.startswith("blocks.0.")
    ((_, own),) = missing_outputs(net, twin, RandomImages(), "blocks.0")
    ((_, behind),) = missing_outputs(net, twin, RandomImages(), "blocks.1")
    assert own.any() and not behind.any()
