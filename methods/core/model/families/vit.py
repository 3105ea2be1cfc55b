"""timm's VisionTransformer: ViT and DeiT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.families import Family, NormReaders, layer_norm, timm_mlps
from vitptq.methods.core.model.full_model import computes
from vitptq.methods.core.model.full_vit import full_vision_transformer
from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.model.rotated_parts import Heads, LayerScale, ResidualStream, StreamNorm, Weights


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


def timm_heads(attentions: Iterable[Any]) -> list[Heads]:
    """Return timm's attentions, window attentions among them, as what a rotation turns."""
    return [
        Heads(
            Weights(each.qkv), Weights(each.proj), each.num_heads,
            plain_scores=not computes(*(getattr(each, name, nn.Identity()) for name in ("q_norm", "k_norm"))),
            plain_values=not computes(getattr(each, "norm", nn.Identity())),
        )
        for each in attentions
    ]  # fmt: skip


def _residual_stream(model: Any) -> ResidualStream:
    outside = {
        "normalised embeddings": computes(model.patch_embed.norm, model.norm_pre),
        "a pooling that attends": model.attn_pool is not None,
        "no norm before its head": not computes(model.norm, model.fc_norm),
    }
    if computes(model.fc_norm) and not _pools_linearly(model):
        outside["a pooling that knows the channels before its last norm"] = True
    found = [what for what, is_so in outside.items() if is_so]
    if found:
        raise Unsupported(f'no rotation of the residual stream of a ViT with {" and ".join(found)}; "heads" can be')
    tokens = [(model, name) for name in ("cls_token", "reg_token", "dist_token", "pos_embed")]
    writers, norms, scales = [Weights(model.patch_embed.proj)], [], []
    for block in model.blocks:
        layers = {"1": (block.attn.proj, block.attn.qkv), "2": (block.mlp.fc2, block.mlp.fc1)}
        for number, (writer, reader) in layers.items():
            writers.append(Weights(writer))
            norms.append(StreamNorm(block, f"norm{number}", (Weights(reader),)))
            if computes(getattr(block, f"ls{number}")):
                scales.append(LayerScale(block, f"ls{number}", Weights(writer)))
    return ResidualStream(
        tuple((owner, name) for owner, name in tokens if getattr(owner, name, None) is not None),
        tuple(writers), (*norms, _last_norm(model)), tuple(scales),
    )  # fmt: skip


def _last_norm(model: Any) -> StreamNorm:
    """Return the last norm with the heads that read it; with none where what is between them knows the channels."""
    name = "fc_norm" if computes(model.fc_norm) else "norm"
    heads = [getattr(model, head) for head in ("head", "head_dist") if hasattr(model, head)]
    plain = _pools_linearly(model) and all(type(head) is nn.Linear for head in heads)
    return StreamNorm(model, name, tuple(Weights(head) for head in heads) if plain else ())


def _pools_linearly(model: Any) -> bool:
    """Tell whether pooling the tokens is a choice or a mean of them, in any basis."""
    return type(model).pool is VisionTransformer.pool and model.global_pool in ("", "token", "avg")


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
    heads=lambda model: timm_heads(block.attn for block in model.blocks),
    residual_stream=_residual_stream,
)
