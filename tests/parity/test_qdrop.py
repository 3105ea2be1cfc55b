"""QDrop beside its official code: ranges, learned rounding and step sizes, loss and schedules."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tests.parity.figures import assert_close, assert_same, official
from tests.parity.rounding import assert_adaround, assert_scale_rate, assert_temperature, learned_step
from vitptq.methods.core.ranges.estimation import asymmetric_parameters
from vitptq.methods.core.ranges.power_error import least_power_error
from vitptq.methods.core.reconstruct.losses import StepTensors, squared_error
from vitptq.methods.core.reconstruct.trainable_weight import beta_at, regulariser
from vitptq.methods.ema import MovingAverage

FIGURES = official("qdrop")
STEPS, REGULARISED = (1, 2, 100, 199, 200, 201, 500, 1000), 0.1


@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("tensor", ["ln_output", "gelu"])
def test_min_max_range_is_the_official_one(tensor: str, bits: int) -> None:
    x = FIGURES[f"in_{tensor}"]
    scale, zero = asymmetric_parameters(x.amin().reshape(1), x.amax().reshape(1), bits)
    assert_close(torch.stack([x.amin(), x.amax(), scale[0], zero[0]]), FIGURES[f"MinMaxObserver_{tensor}_{bits}"])


@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("tensor", ["ln_output", "gelu"])
def test_mean_of_two_batches_ranges_is_the_official_one(tensor: str, bits: int) -> None:
    """The official running mean; the adapter takes values of all batches together."""
    observer = MovingAverage(1 / 2)
    x = FIGURES[f"in_{tensor}"]
    for batch in (x[:, :32], x[:, 32:]) if tensor == "gelu" else x.split(1):
        observer.see(batch.reshape(1, -1), bits=bits, last=False)
    low, high = observer.range()
    scale, zero = asymmetric_parameters(low, high, bits)
    assert_close(torch.cat([low, high, scale, zero]), FIGURES[f"AvgMinMaxObserver_{tensor}_{bits}"])


@pytest.mark.parametrize("bits", [4, 3])
@pytest.mark.parametrize("tensor", ["ln_output", "gelu"])
def test_range_of_least_power_error_is_the_official_one(tensor: str, bits: int) -> None:
    x = FIGURES[f"in_{tensor}"][:, :32].reshape(1, -1)
    low, high = least_power_error(x, bits)
    scale, zero = asymmetric_parameters(low, high, bits)
    assert_close(torch.cat([low, high, scale, zero]), FIGURES[f"MSEObserver_{tensor}_{bits}"])


@pytest.mark.parametrize("bits", [4, 3])
def test_weight_rows_of_least_power_error_have_the_official_grids(bits: int) -> None:
    scale, zero = asymmetric_parameters(*least_power_error(FIGURES["in_qkv_weight"][:24], bits), bits)
    assert_close(scale, FIGURES[f"MSEObserver_weight_{bits}_scale"])
    assert_same(zero, FIGURES[f"MSEObserver_weight_{bits}_zero"])


@pytest.mark.parametrize("bits", [4, 3])
def test_official_factor_of_the_step_sizes_gradient_is_a_constant_that_adam_does_not_see(bits: int) -> None:
    values = FIGURES["in_x"].numel() * (2**bits - 1)
    assert_close(learned_step(FIGURES, bits)[2] / values**0.5, FIGURES[f"lsq_{bits}_grad_scale"])


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_learned_rounding_is_the_official_one(bits: int) -> None:
    assert_adaround(FIGURES, bits)


@pytest.mark.parametrize("bits", [4, 3])
def test_learned_step_size_has_the_official_gradients(bits: int) -> None:
    out, by_input, by_scale = learned_step(FIGURES, bits)
    assert_close(out, FIGURES[f"lsq_{bits}_out"])
    assert_close(by_input, FIGURES[f"lsq_{bits}_grad_x"] * FIGURES["in_upstream"])
    assert_close(by_scale, FIGURES[f"lsq_{bits}_plain_grad_scale"])  # without QDrop's factor, which Adam does not see


def _loss_of_maps() -> tuple[Tensor, Tensor]:
    """Return the loss of outputs whose channels are on axis 1, as the official sum takes them, and its gradient."""
    unit = SimpleNamespace(module=nn.Conv2d(1, 1, 1))
    output = FIGURES["in_output"][..., None].clone().requires_grad_()
    loss = squared_error(unit)(StepTensors([output], [FIGURES["in_target"][..., None]], torch.arange(4)))  # type: ignore[arg-type]
    assert isinstance(loss, Tensor)
    loss.backward()
    assert output.grad is not None
    return loss.detach(), output.grad[..., 0]


def test_loss_and_its_gradient_are_the_official_ones() -> None:
    loss, gradient = _loss_of_maps()
    assert_close(loss, FIGURES["loss"])
    assert_close(gradient, FIGURES["loss_grad"])


def test_loss_with_the_rounding_term_follows_the_official_steps() -> None:
    loss, _ = _loss_of_maps()
    totals = []
    for step in STEPS:
        beta = beta_at(step, 1000, 20.0, 2.0, 0.2)
        term = 0.0 if beta is None else REGULARISED * regulariser(FIGURES["in_alpha"], beta)
        totals.append(torch.as_tensor(loss + term))
    assert_close(torch.stack(totals), FIGURES["total"])


def test_temperature_falls_as_in_the_official_schedule() -> None:
    assert_temperature(FIGURES)


def test_rate_of_the_scales_falls_as_in_the_official_schedule() -> None:
    assert_scale_rate(FIGURES)
