"""FQ-ViT beside its official code: observers, weights, power-of-two factors, integer LayerNorm and softmax."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.parity.figures import TIES, assert_close, assert_same, dequantised, official
from vitptq.methods.core.quantizers.integer import (
    IntegerLayerNorm,
    as_integer,
    log_int_softmax,
)
from vitptq.methods.core.quantizers.log import Log2
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.estimation import asymmetric_parameters, min_max, symmetric_parameters
from vitptq.methods.core.ranges.integer import power_of_two_factors
from vitptq.methods.core.ranges.observers import Observer, RunningMinMax
from vitptq.methods.ema import MovingAverage
from vitptq.methods.omse import LeastError
from vitptq.methods.percentile import MovingPercentile

FIGURES = official("fq_vit")
BITS = (8, 4)
MOMENTUM, PERCENTILE = 0.01, 0.99999
OBSERVERS: dict[str, Callable[[], Observer]] = {
    "minmax": RunningMinMax,
    "ema": lambda: MovingAverage(MOMENTUM),
    "percentile": lambda: MovingPercentile(PERCENTILE, MOMENTUM),
    "omse": LeastError,
}
BATCHES = {
    "gelu": (FIGURES["in_gelu"][:, :32], FIGURES["in_gelu"][:, 32:]),
    "ln_output": (FIGURES["in_ln_output"][:1], FIGURES["in_ln_output"][1:]),
}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("tensor", BATCHES)
@pytest.mark.parametrize("name", OBSERVERS)
def test_observer_ends_with_the_official_grid(name: str, tensor: str, bits: int) -> None:
    observer = OBSERVERS[name]()
    for number, batch in enumerate(BATCHES[tensor]):
        observer.see(batch.reshape(1, -1), bits=bits, last=number == len(BATCHES[tensor]) - 1)
    scale, zero = asymmetric_parameters(*observer.range(), bits)
    assert_close(scale, FIGURES[f"{name}_{tensor}_{bits}_scale"])
    assert_same(zero, FIGURES[f"{name}_{tensor}_{bits}_zero"])


@pytest.mark.parametrize("bits", BITS)
def test_symmetric_weight_has_the_official_scales(bits: int) -> None:
    scale, _ = symmetric_parameters(*min_max(FIGURES["in_qkv_weight"]), bits)
    assert_close(scale, FIGURES[f"minmax_qkv_weight_{bits}_scale"])


@pytest.mark.parametrize("bits", BITS)
def test_power_of_two_factors_are_the_official_ones(bits: int) -> None:
    low, high = (value.reshape(1) for value in FIGURES[f"ptf_{bits}_range"])
    base, zero = asymmetric_parameters(low, high, bits)
    factors = power_of_two_factors(FIGURES["in_ln_input"][1:].flatten(0, -2).T, base, zero, bits)
    assert_same(factors, FIGURES[f"ptf_{bits}_factor"])
    assert_same(zero, FIGURES[f"ptf_{bits}_zero"])
    assert_close(base / 8 * factors.exp2(), FIGURES[f"ptf_{bits}_scale"])


@pytest.mark.parametrize("bits", BITS)
def test_integer_layer_norm_without_epsilon_is_the_official_one(bits: int) -> None:
    low, high = (value.reshape(1) for value in FIGURES[f"ptf_{bits}_range"])
    base, zero = asymmetric_parameters(low, high, bits)
    norm = nn.LayerNorm(96, eps=0.0)  # the official integer form leaves epsilon out
    norm.weight.data, norm.bias.data = FIGURES["in_ln_weight"].clone(), FIGURES["in_ln_bias"].clone()
    factors, scale = FIGURES[f"ptf_{bits}_factor"].long(), FIGURES[f"ptf_{bits}_out_scale"]
    ours = IntegerLayerNorm(norm, base, zero, factors, scale, bits)(FIGURES["in_ln_input"])
    steps = ((ours - FIGURES[f"ptf_{bits}_norm"]) / scale).round().abs()
    assert steps.max() <= 1  # floor of a sum in float32
    assert steps.double().mean().item() <= TIES


def test_integer_factors_are_the_official_ones() -> None:
    mantissa, exponent = as_integer(FIGURES["in_factor"].double())
    assert_same(mantissa, FIGURES["factor_M"])
    assert_same(exponent, FIGURES["factor_N"])


def _rounds(codes: Tensor, scale: float) -> Tensor:
    return log_int_softmax(codes - codes.amax(-1, keepdim=True), scale)


def _powers(rounds: Tensor, bits: int) -> Tensor:
    """Return 2^-k, and 0 behind the last code: the official form has 2^b + 1 values."""
    table = torch.cat([(-torch.arange(2**bits).float()).exp2(), torch.zeros(1)])
    return table[rounds.clamp_max(2**bits).long()]


def test_integer_softmax_rounds_as_the_official_one() -> None:
    ours = _rounds(FIGURES["lis_code"].double(), FIGURES["lis_scale"].item())
    assert_close(ours.clamp_max(30), FIGURES["lis_rounds"].clamp_max(30), apart=TIES)  # beyond any table


@pytest.mark.parametrize("bits", [4, 3])
def test_integer_softmax_with_an_extra_zero_puts_out_the_official_values(bits: int) -> None:
    ours = _powers(_rounds(FIGURES["lis_code"].double(), FIGURES["lis_scale"].item()), bits)
    assert_close(ours, FIGURES[f"lis_{bits}_out"], apart=TIES)


def test_integer_softmax_of_random_scores_is_the_official_one() -> None:
    codes = (FIGURES["in_lis_random"].double() / 0.04).round()
    assert_same(_powers(_rounds(codes, 0.04), 4), FIGURES["lis_random_out"])


def test_log2_with_an_extra_zero_puts_out_the_official_values() -> None:
    ours = Log2(4, torch.ones(()), zero_code="extra")(FIGURES["in_softmax"])
    assert_same(ours, FIGURES["log2_softmax_4"])


@pytest.mark.parametrize("bits", BITS)
def test_symmetric_weights_are_on_the_official_codes(bits: int) -> None:
    scale = FIGURES[f"minmax_qkv_weight_{bits}_scale"]
    quantizer = Uniform(bits, scale, torch.zeros_like(scale), axis=0, granularity="channel", signed=True)
    expected = dequantised(FIGURES[f"minmax_qkv_weight_{bits}_code"], scale, None, 0)
    assert_close(quantizer(FIGURES["in_qkv_weight"]), expected, apart=TIES)
