"""timm's VisionTransformer: ViT and DeiT."""

from __future__ import annotations

from typing import Any

from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.families import Family, NormReaders, layer_norm, timm_mlps
from vitptq.methods.core.model.full_vit import full_vision_transformer
from vitptq.methods.core.model.operands import MatMul


class PreparedAttention(nn.Module):
    """Self-attention with Q K^T and A V as modules. Float output equals timm's up to rounding."""

    def __init__(self, attention: Attention, bits: BitSpec) -> None:
        super().__init__()
        if attention.gate is not None:
            raise Unsupported("no operand map for gated attention")
        self.num_heads, self.head_dim, self.scale = attention.num_heads, attention.head_dim, attention.scale
        self.qkv, self.proj = attention.qkv, attention.proj
        self.q_norm, self.k_norm, self.norm = attention.q_norm, attention.k_norm, attention.norm
        self.qk = MatMul("query", "key", bits, transpose=True)
        self.av = MatMul("softmax", "value", bits)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Attend, shape (B, N, C) to (B, N, C)."""
        if is_causal:
            raise Unsupported("no operand map for causal attention")
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, N, head_dim)
        scores = self.qk(self.q_norm(q), self.k_norm(k)) * self.scale
        if attn_mask is not None:
            scores = scores + attn_mask
        out = self.av(scores.softmax(dim=-1), v)
        projected: Tensor = self.proj(self.norm(out.transpose(1, 2).flatten(2)))
        return projected


def _norm_readers(model: Any) -> list[NormReaders]:
    pairs = []
    for block in model.blocks:
        pairs += [
            NormReaders(layer_norm(block.norm1), (block.attn.qkv,)),
            NormReaders(layer_norm(block.norm2), (block.mlp.fc1,)),
        ]
    return pairs


def _blocks(model: Any) -> list[tuple[str, nn.Module]]:
    return [(f"blocks.{i}", block) for i, block in enumerate(model.blocks)]


def _matches(model: nn.Module) -> bool:
    return isinstance(model, VisionTransformer) and all(type(block) is Block for block in model.blocks)


FAMILY = Family(
    name="vit",
    matches=_matches,
    attention={Attention: PreparedAttention},
    stem=lambda model: model.patch_embed.proj,
    after_gelu=lambda model: [block.mlp.fc2 for block in model.blocks],
    norm_readers=_norm_readers,
    blocks=_blocks,
    mlps=lambda model: timm_mlps(_blocks(model)),
    full_form=full_vision_transformer,
)
