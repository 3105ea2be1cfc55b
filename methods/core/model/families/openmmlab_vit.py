"""mmseg's VisionTransformer (ViT and DeiT as segmenters' backbone), for images of any size."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.families import Family, NormReaders, layer_norm
from vitptq.methods.core.model.openmmlab import (
    backbone_of,
    behind_gelu,
    features,
    feed_forward,
    feed_forward_mlps,
    has_backbone,
    in_model,
    neck_and_head_units,
)
from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.model.rotated_parts import Heads, Weights

MODULE = "mmseg.models.backbones.vit"


class PreparedSelfAttention(nn.Module):
    """mmcv's MultiheadAttention, attending to itself, with Q K^T and A V as modules.

    The joint weight of torch's MultiheadAttention becomes a linear layer `qkv`. Float output equals mmcv's up to
    rounding.
    """

    def __init__(self, attention: Any, bits: BitSpec) -> None:
        super().__init__()
        inner: nn.MultiheadAttention = attention.attn
        if not inner._qkv_same_embed_dim or inner.bias_k is not None or inner.add_zero_attn:
            raise Unsupported("no operand map for attention with keys of another width or added keys")
        if not attention.batch_first:
            raise Unsupported("no operand map for attention with the tokens on the first axis")
        self.num_heads, self.scale = inner.num_heads, inner.head_dim**-0.5
        self.qkv = _linear(inner.in_proj_weight, inner.in_proj_bias)
        self.proj = _linear(inner.out_proj.weight, inner.out_proj.bias)
        self.qk = MatMul("query", "key", bits, transpose=True)
        self.av = MatMul("softmax", "value", bits)

    def forward(self, query: Tensor, *, identity: Tensor | None = None) -> Tensor:
        """Attend, shape (B, N, C) to (B, N, C), and add `identity` (`query` where it is not given)."""
        batch, tokens, _ = query.shape
        qkv = self.qkv(query).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, N, head_dim)
        out = self.av((self.qk(q * self.scale, k)).softmax(dim=-1), v)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return (query if identity is None else identity) + projected


def _linear(weight: Any, bias: Any) -> nn.Linear:
    """Return a linear layer with these parameters, shapes (out, in) and (out,) or None."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = weight
    if bias is not None:
        layer.bias = bias
    return layer


def _norm_readers(model: nn.Module) -> list[NormReaders]:
    pairs = []
    for layer in backbone_of(model).layers:
        pairs += [
            NormReaders(layer_norm(layer.norm1), (layer.attn.qkv,)),
            NormReaders(layer_norm(layer.norm2), (feed_forward(layer.ffn)[0],)),
        ]
    return pairs


def _blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    layers = [(f"layers.{i}", layer) for i, layer in enumerate(backbone_of(model).layers)]
    return in_model(model, layers) + neck_and_head_units(model)


def _heads(model: nn.Module) -> list[Heads]:
    inner = [layer.attn.attn for layer in backbone_of(model).layers]
    return [
        Heads(Weights(each, "in_proj_weight", "in_proj_bias"), Weights(each.out_proj), each.num_heads) for each in inner
    ]


FAMILY = Family(
    name="openmmlab vit",
    matches=has_backbone(f"{MODULE}.VisionTransformer"),
    attention={"mmcv.cnn.bricks.transformer.MultiheadAttention": PreparedSelfAttention},
    stem=lambda model: backbone_of(model).patch_embed.projection,
    after_gelu=lambda model: [reader for layer in backbone_of(model).layers for reader in behind_gelu(layer.ffn)],
    norm_readers=_norm_readers,
    blocks=_blocks,
    mlps=lambda model: feed_forward_mlps([pair for pair in _blocks(model) if hasattr(pair[1], "ffn")]),
    features=features,
    heads=_heads,
    training_only=("auxiliary_head",),
)
