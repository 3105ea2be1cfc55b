from __future__ import annotations

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import two_block_models
from vitptq.methods.core.model.operand_kinds import of_kinds, operand_kinds
from vitptq.methods.core.model.prepare import prepare


def test_what_a_layer_norm_puts_out_is_a_kind_of_its_own() -> None:
    kinds = operand_kinds(prepare(two_block_models()["ViT"], BitSpec(4, 4)))
    assert kinds["blocks.0.attn.qkv.input_operand"] == kinds["blocks.0.mlp.fc1.input_operand"] == "layer_norm"
    assert kinds["blocks.0.attn.proj.input_operand"] == "input"
    assert kinds["blocks.0.mlp.fc2.input_operand"] == "gelu"
    assert kinds["blocks.0.attn.qkv.weight_operand"] == "weight"


def test_operands_of_a_kind_alone_are_in_reach() -> None:
    net = of_kinds(prepare(two_block_models()["ViT"], BitSpec(4, 4)), ("softmax", "gelu"))
    assert {operand.role for operand in net.operands.values()} == {"softmax", "gelu"}
    assert len(net.operands) == 4
