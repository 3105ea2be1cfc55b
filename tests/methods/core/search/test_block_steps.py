"""The steps of a block: layers in the order in which they run, with the products behind them."""

from __future__ import annotations

import pytest

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.search.behind_prefix import BehindPrefix
from vitptq.methods.core.search.block_steps import Step, attention_blocks, steps_of


def steps(model: str, block: str) -> list[Step]:
    net, twin = (prepare(two_block_models()[model], BitSpec(4, 4)) for _ in range(2))
    return steps_of(net, BehindPrefix(net, twin, RandomImages(), block))


@pytest.mark.parametrize(("model", "block"), [("ViT", "blocks.0"), ("Swin", "layers.0.blocks.0")])
def test_an_attention_block_has_four_steps_and_the_products_stand_with_qkv(model: str, block: str) -> None:
    found = steps(model, block)
    names = [step.name.removeprefix(f"{block}.").removesuffix(".input_operand") for step in found]
    assert names == ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    assert [len(step.products) for step in found] == [2, 0, 0, 0]
    assert [step.norm is not None for step in found] == [True, False, True, False]
    assert [slot.role for slot in found[0].sides] == ["query", "key", "value"]
    assert [slot.role for slot in found[0].probabilities] == ["softmax"]


def test_patch_merging_is_a_block_with_one_step() -> None:
    net = prepare(two_block_models()["Swin"], BitSpec(4, 4))
    assert attention_blocks(net) == ["layers.0.blocks.0", "layers.1.downsample", "layers.1.blocks.0"]
    (only,) = steps("Swin", "layers.1.downsample")
    assert only.norm is not None and only.products == ()
