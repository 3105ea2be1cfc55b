"""Widths in a model in full form: allotted to operands, what is stored keeps up with them."""

from __future__ import annotations

import pytest

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.full_model import Attention, Point
from vitptq.methods.core.model.full_with_shifts import prepare_in_full_to_fold
from vitptq.methods.core.search.stored_widths import allot_operand_bits, parts_of_qkv


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_stored_values_are_as_wide_as_what_is_read_from_them(name: str) -> None:
    net = prepare_in_full_to_fold(two_block_models()[name], BitSpec(4, 4, mixed=True))
    allot_operand_bits(net, RandomImages(), "nuclear", reach=1)
    attentions = [module for module in net.model.modules() if isinstance(module, Attention)]
    assert attentions
    for attention in attentions:
        assert len(parts_of_qkv(attention)) == 3
        assert attention.qkv_out.bits == max(slot.bits for slot in parts_of_qkv(attention))
    assert {slot.bits for slot in net.operands.values() if not isinstance(slot, Point)} == {3, 4, 5, 8}


def test_all_else_that_is_stored_keeps_its_width() -> None:
    net = prepare_in_full_to_fold(two_block_models()["ViT"], BitSpec(4, 4, mixed=True))
    allot_operand_bits(net, RandomImages(), "nuclear", reach=1)
    assert net.operands["blocks.0.first_sum"].bits == 4
    assert net.operands["blocks.0.attn.scores"].bits == 8
