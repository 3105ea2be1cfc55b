"""APHQ-ViT beside its official code: reparameterisation, learned rounding and step sizes, weighted loss, schedules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vitptq.methods.core.reconstruct.rounding import beta_at, regularise, regulariser
from vitptq.methods.core.reconstruct.train import cosine_rate

from tests.parity.figures import assert_close, assert_same, official
from tests.parity.rounding import assert_adaround, learned_step
from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.layer_norm import fold
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.reconstruct.losses import StepTensors, divergence, weighted_error

FIGURES = official("aphq_vit")
STEPS, REGULARISED = (1, 2, 100, 199, 200, 201, 500, 1000), 0.01


@pytest.mark.parametrize("bits", [6, 4, 3])
def test_learned_step_size_has_the_official_gradient(bits: int) -> None:
    _, _, by_scale = learned_step(FIGURES, bits)
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


def test_total_loss_follows_the_official_steps() -> None:
    output, target = FIGURES["in_output"], FIGURES["in_target"]
    first = weighted(output)
    totals = []
    for step in STEPS:
        now = output if step == 1 else output * 0.99 + target * 0.01
        beta = beta_at(step, 1000, 20.0, 2.0, 0.2)
        term = 0.0 if beta is None else REGULARISED * regulariser(FIGURES["in_alpha"], beta)
        totals.append(torch.as_tensor(2 * weighted(now) / first + term))
    assert_close(torch.stack(totals), FIGURES["loss_hessian_perturb"])


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
    fold(norm, (reader,), r1=scale / mean_scale, shift=scale * (zero - mean_zero))
    assert_close(mean_scale, FIGURES["reparam_4_scale"])
    assert_same(mean_zero, FIGURES["reparam_4_zero"])
    assert_close(scale / mean_scale, FIGURES["reparam_4_r"])
    assert_close(norm.weight, FIGURES["reparam_4_ln_weight"])
    assert_close(norm.bias, FIGURES["reparam_4_ln_bias"])
    assert_close(reader.weight, FIGURES["reparam_4_next_weight"])
    assert_close(reader.bias, FIGURES["reparam_4_next_bias"])


def test_temperature_falls_as_in_the_official_schedule() -> None:
    steps = FIGURES["schedule_steps"].tolist()
    regularised = [place for place, step in enumerate(steps) if step >= 4000]  # behind the warm-up of 20 %
    ours = torch.tensor([beta_at(steps[place], 20_000) for place in regularised], dtype=torch.float64)
    assert_close(ours, FIGURES["schedule_temperature"][regularised])


def test_rate_of_the_scales_falls_as_in_the_official_schedule() -> None:
    ours = [cosine_rate(4e-5, step, 20_000) for step in FIGURES["schedule_steps"].tolist()]
    assert_close(torch.tensor(ours, dtype=torch.float64), FIGURES["schedule_scale_rate"])
