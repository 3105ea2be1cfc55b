"""ViT and DeiT: where the parts are, and attention that has no operand map."""

from __future__ import annotations

import pytest
import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import VisionTransformer

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.families.vit import PreparedAttention
from vitptq.methods.core.model.prepare import prepare

BITS = BitSpec(4, 4)


def vit() -> VisionTransformer:
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=10)


def test_blocks_come_in_execution_order() -> None:
    assert [name for name, _ in prepare(vit(), BITS).blocks()] == ["blocks.0", "blocks.1"]


def test_each_block_has_two_norms_with_one_reader() -> None:
    pairs = prepare(vit(), BITS).norm_readers()
    assert [len(readers) for _, readers in pairs] == [1] * 4


def test_mlps_are_named_with_their_layers() -> None:
    net = prepare(vit(), BITS)
    first = net.family.mlps(net.model)[0]
    assert (first.whole, first.first, first.second) == ("blocks.0.mlp", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2")


def test_a_mask_is_added_to_the_scores() -> None:
    attention = Attention(48, num_heads=3).eval()
    mask = torch.zeros(17, 17).masked_fill(torch.rand(17, 17, generator=torch.Generator().manual_seed(1)) < 0.3, -100)
    x = torch.randn(2, 17, 48, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = attention(x, attn_mask=mask)
        torch.testing.assert_close(PreparedAttention(attention, BITS)(x, attn_mask=mask), expected)


def test_causal_attention_is_refused() -> None:
    attention = PreparedAttention(Attention(48, num_heads=3), BITS)
    with pytest.raises(Unsupported, match="causal attention"):
        attention(torch.zeros(1, 5, 48), is_causal=True)
