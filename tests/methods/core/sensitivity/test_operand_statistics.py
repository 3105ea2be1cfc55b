"""Statistics of operands, on models whose operands are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.sensitivity.operand_statistics import operand_statistics


@pytest.mark.parametrize("family", ["ViT", "Swin"])
def test_every_norm_block_and_softmax_has_a_number(family: str) -> None:
    found = operand_statistics(two_block_models()[family], RandomImages())
    assert len(found.attention_peak) == 2
    assert len(found.residual) >= 2
    assert len(found.channel_spread) >= 4
    assert min(found.channel_spread.values()) >= 1


def test_a_widened_channel_is_the_spread_of_its_norm_alone() -> None:
    model: Any = two_block_models()["ViT"]
    with torch.no_grad():
        model.blocks[1].norm1.weight[3] *= 64
    found = operand_statistics(model, RandomImages()).channel_spread
    assert 32 < found["blocks.1.attn.qkv.input_operand"] < 128
    assert found["blocks.0.attn.qkv.input_operand"] < 8


def test_attention_to_one_token_has_a_peak_of_one() -> None:
    model: Any = two_block_models()["ViT"]
    before = operand_statistics(model, RandomImages()).attention_peak
    with torch.no_grad():
        model.blocks[0].attn.qkv.weight *= 1000
    after = operand_statistics(model, RandomImages()).attention_peak
    assert after["blocks.0.attn.av.left_operand"] > 0.99 > before["blocks.0.attn.av.left_operand"]


def test_the_model_stays_as_it_was() -> None:
    model = two_block_models()["ViT"]
    images = torch.randn(2, 3, 32, 32)
    before = model(images)
    operand_statistics(model, RandomImages())
    assert torch.equal(model(images), before)
