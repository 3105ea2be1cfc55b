"""I&S-ViT beside its official code: shift-uniform-log2, percentile ranges, loss and schedule."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tests.parity.figures import TIES, assert_close, assert_same, dequantised, official
from vitptq.methods.core.quantizers.shift_uniform_log2 import shifted_range
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.attention_grids import ETAS, _released_choice, least_error_sulq
from vitptq.methods.core.ranges.percentile_error import least_error_affine
from vitptq.methods.core.reconstruct.losses import StepTensors, squared_error
from vitptq.methods.core.reconstruct.smooth_optimisation import ACTIVATION_PERCENTILES, WEIGHT_PERCENTILES
from vitptq.methods.core.reconstruct.trainer import cosine_rate

FIGURES = official("is_vit")
BITS = (6, 4, 3)
PROBABILITIES = ("softmax", "flat", "peaky")
TENSORS = {
    "ln_output_channel": (2, ACTIVATION_PERCENTILES),
    "ln_output_tensor": (None, ACTIVATION_PERCENTILES),
    "gelu_tensor": (None, ACTIVATION_PERCENTILES),
    "qkv_weight_channel": (0, WEIGHT_PERCENTILES),
}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", PROBABILITIES)
def test_shift_is_the_official_one(name: str, bits: int) -> None:
    eta = least_error_sulq(FIGURES[f"in_{name}"], bits, form="code").eta
    assert_close(eta, FIGURES[f"{name}_{bits}_eta"], relative=1e-6)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", PROBABILITIES)
def test_error_of_every_shift_is_the_official_one(name: str, bits: int) -> None:
    x = FIGURES[f"in_{name}"]
    errors = [(_released_choice(x, bits, eta)(x) - x).square().mean() for eta in ETAS]
    assert_close(torch.stack(errors), FIGURES[f"{name}_{bits}_errors"], relative=1e-4)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", PROBABILITIES)
def test_released_form_puts_out_the_official_values_and_gradients(name: str, bits: int) -> None:
    x = FIGURES[f"in_{name}"].clone().requires_grad_()
    out = least_error_sulq(FIGURES[f"in_{name}"], bits, form="code")(x)
    out.sum().backward()
    assert x.grad is not None
    assert_close(out, FIGURES[f"{name}_{bits}_out"], apart=TIES)
    if f"{name}_{bits}_grad" in FIGURES:
        assert_close(x.grad, FIGURES[f"{name}_{bits}_grad"], relative=1e-4, apart=TIES)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", PROBABILITIES)
def test_shifted_range_is_the_official_one(name: str, bits: int) -> None:
    low, high = shifted_range(FIGURES[f"in_{name}"], FIGURES[f"{name}_{bits}_eta"].item())
    assert_close(torch.tensor([-high, -low]), FIGURES[f"{name}_{bits}_range"])


def test_loss_and_its_gradient_are_the_official_ones_but_for_their_factor() -> None:
    """The official sum is over the tokens, ours over the channels; Adam does not see the factor."""
    output = FIGURES["in_output"].clone().requires_grad_()
    tokens, channels = output.shape[1:]
    unit = SimpleNamespace(module=nn.Identity())
    loss = squared_error(unit)(StepTensors([output], [FIGURES["in_target"]], torch.arange(len(output))))
    assert isinstance(loss, Tensor)
    loss.backward()
    assert output.grad is not None
    assert_close(loss * tokens / channels, FIGURES["loss"])
    assert_close(output.grad * tokens / channels, FIGURES["loss_grad"])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("tensor", TENSORS)
def test_percentile_grid_is_the_official_one(tensor: str, bits: int) -> None:
    (axis, percentiles), x = TENSORS[tensor], FIGURES["in_" + tensor.rpartition("_")[0]]
    rows = x.reshape(1, -1) if axis is None else x.movedim(axis, 0).flatten(1)
    scale, zero = least_error_affine(rows, bits, percentiles)
    assert_close(scale, FIGURES[f"{tensor}_{bits}_scale"])
    assert_same(zero, FIGURES[f"{tensor}_{bits}_zero"])


@pytest.mark.parametrize("name", sorted(name for name in FIGURES if name.endswith("_code") and name[-6].isdigit()))
def test_codes_at_the_official_grid_are_equal(name: str) -> None:
    stem, bits = name.removesuffix("_code").rsplit("_", 1)
    (axis, _), x = TENSORS[stem], FIGURES["in_" + stem.rpartition("_")[0]]
    scale, zero = FIGURES[f"{stem}_{bits}_scale"], FIGURES[f"{stem}_{bits}_zero"]
    ours = Uniform(int(bits), scale, zero, axis=axis, granularity="tensor" if axis is None else "channel")(x)
    assert_close(ours, dequantised(FIGURES[name], scale, zero, axis), apart=TIES)


@pytest.mark.parametrize("steps", [1000, 200])
def test_rate_falls_as_in_the_official_schedule(steps: int) -> None:
    taken = [round(share * steps) for share in (0, 0.1, 0.2, 0.5, 1)]
    ours = torch.tensor([cosine_rate(4e-5, step, steps) for step in taken], dtype=torch.float64)
    assert_close(ours, FIGURES[f"schedule_{steps}"])
