"""FQ-ViT beside its official code: observers, weights, factors, integer LayerNorm and softmax, and the whole model.

The whole model is `FQViT(form="released")` on mini_vit, calibrated with one batch of 32 images.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from tests.parity.figures import ROUNDING, TIES, assert_close, assert_same, dequantised, manifest, official
from tests.parity.official_images import OfficialImages, normalised
from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.quantizers.integer import (
    IntegerLayerNorm,
    as_integer,
    log_int_softmax,
)
from vitptq.methods.core.quantizers.log import Log2
from vitptq.methods.core.quantizers.rounded_code import RoundedCode
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.estimation import asymmetric_parameters, min_max, symmetric_parameters
from vitptq.methods.core.ranges.integer import power_of_two_factors
from vitptq.methods.core.ranges.observers import Observer, RunningMinMax
from vitptq.methods.ema import MovingAverage
from vitptq.methods.fq_vit import FQViT
from vitptq.methods.omse import LeastError
from vitptq.methods.percentile import MovingPercentile
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS

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
    if name != "omse":  # whose official range is that before the search: see below
        assert_close(torch.cat(observer.range()), FIGURES[f"{name}_{tensor}_{bits}_range"])
    assert_close(scale, FIGURES[f"{name}_{tensor}_{bits}_scale"])
    assert_same(zero, FIGURES[f"{name}_{tensor}_{bits}_zero"])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("tensor", BATCHES)
def test_search_of_least_error_starts_at_the_official_range(tensor: str, bits: int) -> None:
    observer = RunningMinMax()
    for batch in BATCHES[tensor]:
        observer.see(batch.reshape(1, -1), bits=bits, last=False)
    assert_same(torch.cat(observer.range()), FIGURES[f"omse_{tensor}_{bits}_range"])


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
def test_residual_stream_is_on_the_official_values(bits: int) -> None:
    scale, zero = FIGURES[f"ptf_{bits}_scale"], FIGURES[f"ptf_{bits}_zero"]
    grid = RoundedCode(bits, scale, zero.expand_as(scale), axis=-1, granularity="channel")
    assert_close(grid(FIGURES["in_ln_input"]), FIGURES[f"ptf_{bits}_input"], apart=TIES)


def test_grid_of_the_scores_is_the_official_one() -> None:
    low, high = (end.reshape(1) for end in FIGURES["in_scores"].aminmax())
    scale, zero = asymmetric_parameters(low, high, 8)
    assert_close(scale, FIGURES["lis_scale"])
    assert_same(zero, FIGURES["lis_zero"])


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
    return log_int_softmax(codes - codes.amax(-1, keepdim=True), torch.tensor(scale, dtype=torch.float64))


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


SLOTS = {  # what the official modules with a scale are here
    "qact_input": "patch_embed.proj.input_operand",
    "patch_embed.qact": "patches",
    "qact_embed": "with_class_token",
    "qact_pos": "positions",
    "qact1": "embedding",
    "blocks.2.qact1": "blocks.2.attn.qkv.input_operand",
    "blocks.2.attn.qact1": "blocks.2.attn.qkv_out",
    "blocks.2.attn.qact_attn1": "blocks.2.attn.scores",
    "blocks.2.attn.qact2": "blocks.2.attn.proj.input_operand",
    "blocks.2.attn.qact3": "blocks.2.attn.proj_out",
    "blocks.2.qact2": "blocks.2.first_sum",
    "blocks.2.qact3": "blocks.2.mlp.fc1.input_operand",
    "blocks.2.mlp.qact1": "blocks.2.mlp.fc2.input_operand",
    "blocks.2.mlp.qact2": "blocks.2.mlp_out",
    "blocks.2.qact4": "blocks.2.second_sum",
    "qact2": "head.input_operand",
    "act_out": "logits",
}
FLOAT_POINTS = ("patches", "with_class_token", "positions", "logits", "proj_out", "mlp_out")
STREAM = ("embedding", "first_sum", "second_sum")
SUMS = 1e-6
"""Of a scale: ranges are extremes of what matrix kernels put out, and the official code's own move by up to 3e-7."""
MANY_SUMS = 3e-5
"""Behind all blocks, at the last LayerNorm's output, the official code's own scale moves by 1.3e-5."""


@cache
def released(bits: int, integer: bool) -> nn.Module:
    method = FQViT(form="released", integer_norm=integer, integer_softmax=integer)
    return method.quantize(CLASSIFIERS["mini_vit"].load(), OfficialImages(), BitSpec(bits, bits))


@torch.no_grad()
def logits(bits: int, integer: bool, in_float: tuple[str, ...] = ()) -> Tensor:
    """Return the logits of the evaluation images, with the slots of the last names switched off."""
    model = released(bits, integer)
    slots = [m for m in model.modules() if isinstance(m, Operand) and m.name.rpartition(".")[2] in in_float]
    for slot in slots:
        slot.on = False
    try:
        found: Tensor = model(normalised("evaluation"))
    finally:
        for slot in slots:
            slot.on = True
    return found


@pytest.mark.parametrize("name", SLOTS)
@pytest.mark.parametrize("bits", BITS)
def test_every_stored_tensor_ends_with_the_official_grid(bits: int, name: str) -> None:
    quantizer = released(bits, True).get_submodule(f"{SLOTS[name]}.quantizer")
    assert isinstance(quantizer, Uniform)
    relative = MANY_SUMS if name == "qact2" else SUMS
    assert_close(quantizer.scale, FIGURES[f"final_W{bits}A{bits}/{name}/scale"], relative=relative)
    assert_same(quantizer.zero_point[:1], FIGURES[f"final_W{bits}A{bits}/{name}/zero"])


@pytest.mark.parametrize("name", ["qact1", "blocks.2.qact2", "blocks.2.qact4"])
@pytest.mark.parametrize("bits", BITS)
def test_factors_of_the_residual_stream_are_the_official_ones(bits: int, name: str) -> None:
    ours = released(bits, True).get_submodule(f"{SLOTS[name]}.quantizer").scale
    theirs = FIGURES[f"final_W{bits}A{bits}/{name}/scale"]
    assert isinstance(ours, Tensor)
    assert_same(*((scale / scale.amin()).log2().round() for scale in (ours, theirs)))


@pytest.mark.parametrize(("suffix", "in_float"), [("", ()), ("_float_points", FLOAT_POINTS)])
@pytest.mark.parametrize("bits", BITS)
def test_logits_are_as_near_as_the_official_code_is_to_itself(
    bits: int, suffix: str, in_float: tuple[str, ...]
) -> None:
    """With other matrix kernels it moves by 9 to 41 % of the largest logit; ours is off by less, in the mean."""
    name = f"logits_W{bits}A{bits}{suffix}"
    own = manifest()["files"]["fq_vit.npz"]["arrays"][name]["repetition"]["other_kernels"]
    ours, theirs = logits(bits, True, in_float), FIGURES[name]
    assert (ours - theirs).square().mean().sqrt() < own * theirs.abs().amax() / 2


@pytest.mark.parametrize(("suffix", "in_float"), [("", ()), ("_float_points", FLOAT_POINTS + STREAM)])
@pytest.mark.parametrize(("bits", "images"), [(8, 16), (4, 30)])
def test_logits_without_integer_parts_are_the_official_ones(
    bits: int, images: int, suffix: str, in_float: tuple[str, ...]
) -> None:
    """But for images in which a quotient lies on a tie: hardly any at 4 bits, some at 8, with 17 times the codes."""
    theirs = FIGURES[f"logits_W{bits}A{bits}_no_ptf_no_lis{suffix}"]
    largest = theirs.abs().amax()
    difference = (logits(bits, False, in_float) - theirs).abs().amax(1) / largest
    assert (difference < ROUNDING).sum() >= images
    assert difference.amax() < 0.12  # one step of the logits at 4 bits is a ninth of the largest
