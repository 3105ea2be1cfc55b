"""BRECQ: the order of its two trainings, and its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.brecq import BRECQ
from vitptq.methods.core.reconstruct.least_error_start import calibrated

BITS = BitSpec(3, 3)


def quantised(method: Any) -> tuple[nn.Module, dict[str, list[Any]]]:
    with reporting.listening() as heard:
        model = method.quantize(two_block_models()["ViT"], RandomImages(), BITS)
    return model, {name: list(table.rows) for name, table in heard.tables.items()}


def test_brecq_rounds_the_whole_model_before_it_trains_scales() -> None:
    _, tables = quantised(BRECQ(iterations=1, scale_iterations=1))
    assert list(tables) == ["rounding", "scales"]


def test_brecq_weights_have_a_mean_square_of_one_and_leave_the_switches() -> None:
    from vitptq.methods.brecq import gradients
    from vitptq.methods.core.reconstruct.plan import plan
    from vitptq.methods.core.reconstruct.unit import Unit

    net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
    for operand in net.activations.values():
        operand.on = False
    (found,) = plan(twin, RandomImages(), ["blocks.0"])
    parts: list[Tensor] = gradients(Unit(found, 0, net, twin, RandomImages()))
    assert torch.cat(parts).shape == (8, 17, 32)
    assert torch.cat(parts).square().mean().item() == pytest.approx(1, rel=1e-5)
    assert all(operand.on == (operand.role == "weight") for operand in net.operands.values())
