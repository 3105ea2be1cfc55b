"""Swin: where the parts are, and the position bias of its windows."""

from __future__ import annotations

import torch
from timm.models.swin_transformer import SwinTransformer, WindowAttention

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.families.swin import PreparedWindowAttention
from vitptq.methods.core.model.prepare import prepare

BITS = BitSpec(4, 4)


def swin() -> SwinTransformer:
    return SwinTransformer(
        img_size=32, patch_size=2, embed_dim=16, window_size=4, depths=(2, 2), num_heads=(1, 2), num_classes=10
    )


def test_blocks_come_in_execution_order_with_the_merging_before_its_stage() -> None:
    first = ["layers.0.blocks.0", "layers.0.blocks.1"]
    second = ["layers.1.downsample", "layers.1.blocks.0", "layers.1.blocks.1"]
    assert [name for name, _ in prepare(swin(), BITS).blocks()] == [*first, *second]


def test_norms_of_blocks_and_of_the_merging_have_readers() -> None:
    pairs = prepare(swin(), BITS).norm_readers()
    assert len(pairs) == 9
    assert [reader.behind_padding for _, (reader,) in pairs[:2]] == [True, False]  # windows may be padded


def test_the_position_bias_is_that_of_timm() -> None:
    attention = WindowAttention(16, num_heads=2, window_size=(4, 4)).eval()
    with torch.no_grad():
        attention.relative_position_bias_table.normal_()
        expected = attention._get_rel_pos_bias()[0]
        assert torch.equal(PreparedWindowAttention(attention, BITS).position_bias(), expected)
