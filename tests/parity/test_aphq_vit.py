"""APHQ-ViT beside its official code: searches, reparameterisation, learned rounding, weighted loss, schedules."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.parity.figures import assert_close, assert_same, official
from tests.parity.official_images import OfficialImages
from tests.parity.rounding import assert_adaround, assert_scale_rate, assert_temperature, learned_step
from tests.parity.slots import parameter
from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.operands import Linear, MatMul
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.uniform import Granularity, Uniform
from vitptq.methods.core.reconstruct.losses import StepTensors, divergence, power_error, weighted_error
from vitptq.methods.core.reconstruct.trainable_weight import beta_at, regularise, regulariser
from vitptq.methods.core.search.bound_search import search_bounds
from vitptq.methods.core.search.fpcs import ACTIVATION_FLOOR, FPCSBudget, fpcs, own_error, uniform_grids
from vitptq.methods.core.search.grid_errors import side_error, weight_error
from vitptq.methods.core.search.recording import Inputs, recorded_inputs
from vitptq.methods.core.search.uniform_search import fold_norms, search_layer
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS

FIGURES = official("aphq_vit")
STEPS, REGULARISED = (1, 2, 100, 199, 200, 201, 500, 1000), 0.01


@pytest.mark.parametrize("bits", [6, 4, 3])
def test_learned_step_size_has_the_official_values_and_gradients(bits: int) -> None:
    out, by_input, by_scale = learned_step(FIGURES, bits)
    assert_close(out, FIGURES[f"lsq_{bits}_out"])
    assert_close(by_input, FIGURES[f"lsq_{bits}_grad_x"] * FIGURES["in_upstream"])
    assert_close(by_scale, FIGURES[f"lsq_{bits}_grad_scale"])


@pytest.mark.parametrize("bits", [4, 3])
def test_learned_rounding_is_the_official_one(bits: int) -> None:
    assert_adaround(FIGURES, bits)


@pytest.mark.parametrize("temperature", [20, 10, 3, 2])
def test_rounding_term_and_its_gradient_are_the_official_ones(temperature: int) -> None:
    alpha = nn.Parameter(FIGURES["in_alpha"].clone())
    alpha.grad = torch.zeros_like(alpha)
    regularise(alpha, float(temperature), REGULARISED)
    assert_close(REGULARISED * regulariser(alpha, float(temperature)), FIGURES[f"regulariser_{temperature}"])
    assert_close(alpha.grad, FIGURES[f"regulariser_{temperature}_grad"])


def weighted(output: Tensor) -> Any:
    importance = FIGURES["in_map"]
    loss = weighted_error(lambda unit: lambda indices: importance)(None)
    return loss(StepTensors([output], [FIGURES["in_target"]], torch.arange(len(output))))


def test_loss_weighted_with_an_importance_map_is_the_official_one() -> None:
    assert_close(weighted(FIGURES["in_output"]), FIGURES["loss_hessian_perturb_init"])


def unweighted(output: Tensor, power: float = 2) -> Any:
    unit = SimpleNamespace(module=nn.Identity())
    return power_error(power)(unit)(StepTensors([output], [FIGURES["in_target"]], torch.arange(len(output))))


@pytest.mark.parametrize(("name", "power"), [("mse", 2), ("mae", 1)])
def test_loss_without_a_map_is_the_official_one_but_for_a_constant_factor(name: str, power: float) -> None:
    """The official sum runs over the tokens, ours over the channels; the total is divided by the first step's value."""
    _, tokens, channels = FIGURES["in_output"].shape
    assert_close(unweighted(FIGURES["in_output"], power) * tokens / channels, FIGURES[f"loss_{name}_init"])


@pytest.mark.parametrize(
    ("name", "loss"), [("hessian_perturb", weighted), ("mse", unweighted), ("mae", partial(unweighted, power=1))]
)
def test_total_loss_follows_the_official_steps(name: str, loss: Callable[[Tensor], Any]) -> None:
    """ "mse" is that of the repository's QDrop; all are twice their value at the first step."""
    output, target = FIGURES["in_output"], FIGURES["in_target"]
    first = loss(output)
    totals = []
    for step in STEPS:
        now = output if step == 1 else output * 0.99 + target * 0.01
        beta = beta_at(step, 1000, 20.0, 2.0, 0.2)
        term = 0.0 if beta is None else REGULARISED * regulariser(FIGURES["in_alpha"], beta)
        totals.append(torch.as_tensor(2 * loss(now) / first + term))
    assert_close(torch.stack(totals), FIGURES[f"loss_{name}"])


@pytest.mark.parametrize("name", ["perturb", "brecq"])
def test_official_importance_is_rounding_noise_that_float64_takes_away(name: str) -> None:
    single, double = (FIGURES[f"map_hessian_{name}_{kind}"].double().mean() for kind in ("f32", "f64"))
    assert double < 1e-6 * single


def test_divergence_of_the_head_is_the_official_one() -> None:
    seen = StepTensors([FIGURES["in_head_output"]], [FIGURES["in_head_target"]], torch.arange(6))
    ours = divergence(None)(seen)
    assert isinstance(ours, Tensor)
    assert_close(ours, FIGURES["loss_kl_div_init"])


@torch.no_grad()
def test_reparameterised_layer_norm_and_its_reader_are_the_official_ones() -> None:
    norm, plain = nn.LayerNorm(96), nn.Linear(96, 288)
    norm.weight.copy_(FIGURES["in_ln_weight"])
    norm.bias.copy_(FIGURES["in_ln_bias"])
    plain.weight.copy_(FIGURES["in_qkv_weight"])
    plain.bias.copy_(FIGURES["in_qkv_bias"])
    reader = Linear(plain, BitSpec(4, 4))
    scale, zero = FIGURES["channel_4_scale"], FIGURES["channel_4_zero"]
    mean_scale, mean_zero = scale.mean(), zero.mean().round()
    fold_into_layer_norm(norm, (reader,), scale=scale / mean_scale, shift=scale * (zero - mean_zero))
    assert_close(mean_scale, FIGURES["reparam_4_scale"])
    assert_same(mean_zero, FIGURES["reparam_4_zero"])
    assert_close(scale / mean_scale, FIGURES["reparam_4_r"])
    assert_close(mean_scale * (mean_zero - zero), FIGURES["reparam_4_b"])
    assert_close(norm.weight, FIGURES["reparam_4_ln_weight"])
    assert_close(norm.bias, FIGURES["reparam_4_ln_bias"])
    assert_close(reader.weight, FIGURES["reparam_4_next_weight"])
    assert_close(reader.bias, FIGURES["reparam_4_next_bias"])


def test_temperature_falls_as_in_the_official_schedule() -> None:
    assert_temperature(FIGURES)


def test_rate_of_the_scales_falls_as_in_the_official_schedule() -> None:
    assert_scale_rate(FIGURES)


@pytest.mark.parametrize("bits", [6, 4, 3])
def test_bounds_of_attention_factors_are_the_official_ones(bits: int) -> None:
    product = MatMul("query", "key", BitSpec(bits, bits), transpose=True)
    search_bounds(product, Inputs((FIGURES["in_query"],), (FIGURES["in_key"],)), count=128, rounds=3)
    for side, slot in (("A", product.left_operand), ("B", product.right_operand)):
        assert isinstance(slot.quantizer, Uniform)
        assert_close(slot.quantizer.scale, FIGURES[f"matmul_{bits}_{side}_scale"])
        assert_same(slot.quantizer.zero_point, FIGURES[f"matmul_{bits}_{side}_zero"])


def test_losses_of_the_first_bounds_are_the_official_ones() -> None:
    product = MatMul("query", "key", BitSpec(4, 4), transpose=True)
    product.right_operand.quantizer = Uniform(4, *FIGURES["matmul_4_first_B"], axis=1, granularity="head")
    scale, zero = FIGURES["matmul_4_A_candidates"][:, :128].transpose(1, 2).contiguous()
    error = side_error(product, Inputs((FIGURES["in_query"],), (FIGURES["in_key"],)), left=True)
    assert_close(-2 * error(scale, zero).T, FIGURES["matmul_4_A_scores"], relative=1e-4)  # summed over 2 images


def test_losses_of_a_linear_layers_candidates_are_the_official_ones() -> None:
    weight, x = FIGURES["in_fc1_weight"], FIGURES["in_ln2_output"].flatten(0, 1)
    plain = nn.Linear(96, 48, bias=False)
    plain.weight.data = weight.clone()
    reader = Linear(plain.requires_grad_(False), BitSpec(4, 4))
    weights = FIGURES["linear_4_weight_candidates"].transpose(1, 2).contiguous()
    inputs = FIGURES["linear_4_input_candidates"][:, :128]
    assert_close(-own_error(weight, 4)(*weights).T, FIGURES["linear_4_own_weight_scores"], relative=1e-4)
    own = -2 * own_error(x.reshape(1, -1), 4)(inputs[:1], inputs[1:])  # summed over 2 images
    assert_close(own, FIGURES["linear_4_own_input_scores"], relative=1e-4)
    best = FIGURES["linear_4_own_input_scores"].argmax()
    reader.input_operand.quantizer = Uniform(4, *inputs[:, best])
    losses = weight_error(reader, x)(*weights)
    assert_close(-2 * losses.T, FIGURES["linear_4_weight_scores"], relative=1e-4)


@pytest.mark.parametrize("bits", [6, 4, 3])
def test_losses_of_the_first_grids_of_an_input_are_the_official_ones(bits: int) -> None:
    """At our scales, with the official zero points: around the middle code, where ours are around that of the range."""
    x = FIGURES["in_ln2_output"].reshape(1, -1)
    zeros = min(16, 2**bits)
    scales = uniform_grids(x, bits).scale.reshape(-1, zeros).T  # (zero points, scales)
    zero = 2 ** (bits - 1) + torch.arange(zeros)[:, None] - zeros // 2
    losses = -2 * own_error(x, bits)(scales.reshape(1, -1), zero.expand_as(scales).reshape(1, -1).float())
    assert_close(losses, FIGURES[f"linear_{bits}_own_input_scores"], relative=1e-4)  # summed over 2 images


SEARCH = FPCSBudget(128, steps=1)
GRANULARITY: dict[str, Granularity] = {"weight": "channel", "input": "tensor"}
ONE_ROW = 1 / 48
"""Our zero points stand around that of the range: at 3 bits they hold some that the official ones do not."""
SAME_ERROR = 2e-3
"""Of an output's error: values on ties of grids that differ by 1e-6."""


def searched_layer(bits: int) -> tuple[Linear, Tensor]:
    """Return fc1 with the grids that our search gives it, and what it reads."""
    plain = nn.Linear(96, 48, bias=False)
    plain.weight.data = FIGURES["in_fc1_weight"].clone()
    layer, x = Linear(plain.requires_grad_(False), BitSpec(bits, bits)), FIGURES["in_ln2_output"].flatten(0, 1)
    search_layer(layer, Inputs((), (x,)), SEARCH, 3)
    layer.input_operand.on = layer.weight_operand.on = True
    return layer, x


def error_of(layer: Linear, x: Tensor) -> Tensor:
    """Return the mean squared error of a layer's output."""
    error: Tensor = (layer(x) - x @ FIGURES["in_fc1_weight"].T).square().mean()
    return error


@torch.no_grad()
@pytest.mark.parametrize("bits", [4, 3])
def test_grids_of_a_linear_layer_are_the_official_ones(bits: int) -> None:
    layer, x = searched_layer(bits)
    for name, slot in (("weight", layer.weight_operand), ("input", layer.input_operand)):
        assert isinstance(slot.quantizer, Uniform)
        assert_close(slot.quantizer.scale, FIGURES[f"linear_{bits}_{name}_scale"], apart=ONE_ROW)
        assert_close(slot.quantizer.zero_point, FIGURES[f"linear_{bits}_{name}_zero"], apart=ONE_ROW)
    assert error_of(layer, x) <= FIGURES[f"linear_{bits}_error"] * (1 + SAME_ERROR)


@torch.no_grad()
def test_other_zero_points_at_6_bits_lose_no_more_than_the_official_ones() -> None:
    """The official ones are 16 around the middle code; ours are 16 around that of the range."""
    layer, x = searched_layer(6)
    assert error_of(layer, x) <= FIGURES["linear_6_error"]
    for name, slot in (("weight", layer.weight_operand), ("input", layer.input_operand)):
        scale, zero = FIGURES[f"linear_6_{name}_scale"], FIGURES[f"linear_6_{name}_zero"]
        slot.quantizer = Uniform(6, scale, zero, axis=0 if name == "weight" else None, granularity=GRANULARITY[name])
    assert_close(error_of(layer, x), FIGURES["linear_6_error"], relative=SAME_ERROR)


@pytest.mark.parametrize("bits", [6, 4, 3])
def test_grids_per_channel_are_the_official_ones(bits: int) -> None:
    channels = FIGURES["in_ln_output"].flatten(0, 1).T.contiguous()
    grids = uniform_grids(channels, bits, holds_zero=False, floor=ACTIVATION_FLOOR)
    scale, zero = fpcs(grids, own_error(channels, bits), SEARCH, floor=ACTIVATION_FLOOR)
    assert_close(scale, FIGURES[f"channel_{bits}_scale"])
    if bits <= 4:
        assert_same(zero, FIGURES[f"channel_{bits}_zero"])
    else:  # our zero points are around that of the range, and lose less where it lies far from the middle code
        ours, theirs = (
            (Uniform(bits, scale, z, axis=0, granularity="channel")(channels) - channels).square().mean(1)
            for z in (zero, FIGURES[f"channel_{bits}_zero"])
        )
        assert (ours <= theirs).all()


@torch.no_grad()
@pytest.mark.parametrize("bits", [6, 4, 3])
def test_error_of_the_official_bounds_is_reached(bits: int) -> None:
    product = MatMul("query", "key", BitSpec(bits, bits), transpose=True)
    left, right = FIGURES["in_query"], FIGURES["in_key"]
    search_bounds(product, Inputs((left,), (right,)), count=128, rounds=3)
    product.left_operand.on = product.right_operand.on = True
    errors = (product(left, right) - left @ right.mT).square().mean((0, 2, 3))
    assert_close(errors, FIGURES[f"matmul_{bits}_error"], relative=SAME_ERROR)


LAYERS = ("blocks.2.attn.qkv", "blocks.2.attn.proj", "blocks.2.mlp.fc1", "blocks.2.mlp.fc2", "head")
PRODUCTS = {"blocks.2.attn.matmul1": "blocks.2.attn.qk", "blocks.2.attn.matmul2": "blocks.2.attn.av"}


@cache
def searched_model() -> nn.Module:
    """Return mini_vit with some of its layers searched on 32 images as the released form does, at W4A4."""
    net = prepare(CLASSIFIERS["mini_vit"].load(), BitSpec(4, 4))
    fold_norms(net, OfficialImages(), SEARCH)
    layers = [net.model.get_submodule(name) for name in LAYERS]
    for _, layer, inputs in recorded_inputs(net, OfficialImages(), layers):
        assert isinstance(layer, Linear)
        search_layer(layer, inputs, SEARCH, 3, keep_folded=False)
    return net.model


@pytest.mark.parametrize("side", ["w_quantizer", "a_quantizer"])
@pytest.mark.parametrize("layer", LAYERS)
def test_released_search_gives_the_layers_of_a_model_the_official_grids(layer: str, side: str) -> None:
    place = f"{layer}.{side}"
    quantile = 2e-4 if place.endswith("fc2.a_quantizer") else 1e-5  # official quantiles stand at rounded places
    assert_close(parameter(searched_model(), place, "scale"), FIGURES[f"final_W4A4/{place}.scale"], relative=quantile)
    assert_same(parameter(searched_model(), place, "zero_point"), FIGURES[f"final_W4A4/{place}.zero_point"])


@cache
def searched_products() -> dict[str, tuple[MatMul, Inputs]]:
    """Return the attention products of a block of mini_vit with their bounds, searched on 32 images at W4A4."""
    net = prepare(CLASSIFIERS["mini_vit"].load(), BitSpec(4, 4))
    found = {}
    wanted = [net.model.get_submodule(name) for name in PRODUCTS.values()]
    for name, product, inputs in recorded_inputs(net, OfficialImages(), wanted):
        assert isinstance(product, MatMul)
        search_bounds(product, inputs, count=128, rounds=3)
        found[name] = product, inputs
    return found


@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_released_search_gives_the_products_of_a_model_the_official_bounds(name: str, side: str) -> None:
    """But for one of three heads of the softmax output, which loses no more than the official one."""
    product, inputs = searched_products()[PRODUCTS[name]]
    slot, place = product.left_operand if side == "A" else product.right_operand, f"final_W4A4/{name}.{side}_quantizer"
    grid, scale, zero = slot.quantizer, FIGURES[f"{place}.scale"], FIGURES[f"{place}.zero_point"]
    assert isinstance(grid, Uniform)
    assert_close(grid.scale, scale, relative=1e-4, apart=1 / 3 if slot.role == "softmax" else 0.0)
    assert_same(grid.zero_point, zero)
    errors = side_error(product, inputs, left=side == "A")
    losses = errors(torch.stack([grid.scale, scale], 1), torch.stack([grid.zero_point, zero], 1))
    assert (losses[:, 0] <= losses[:, 1] * (1 + SAME_ERROR)).all()
