"""timm's SwinTransformer (version 1): shifted windows, relative position bias, patch merging."""

from __future__ import annotations

from typing import Any

from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, WindowAttention
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.families import Family, NormReaders, layer_norm, timm_mlps
from vitptq.methods.core.model.families.vit import timm_heads
from vitptq.methods.core.model.full_swin import full_swin_transformer
from vitptq.methods.core.model.operands import MatMul, shifted


class PreparedWindowAttention(nn.Module):
    """Window attention with Q K^T and A V as modules. Float output equals timm's and OpenMMLab's up to rounding."""

    relative_position_index: Tensor

    def __init__(self, attention: Any, bits: BitSpec) -> None:
        super().__init__()
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.qkv, self.proj = attention.qkv, attention.proj
        self.relative_position_bias_table = attention.relative_position_bias_table
        self.register_buffer("relative_position_index", attention.relative_position_index, persistent=False)
        self.qk = MatMul("query", "key", bits, transpose=True)
        self.av = MatMul("softmax", "value", bits)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within windows, shape (windows * B, N, C); `mask` is (windows, N, N) with 0 and -100."""
        windows, tokens, _ = x.shape
        qkv = self.qkv(shifted(x, self.qkv)).reshape(windows, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (windows * B, heads, N, head_dim)
        scores = self.qk(q * self.scale, k) + self.position_bias()
        if mask is not None:
            scores = scores.view(-1, len(mask), self.num_heads, tokens, tokens) + mask[None, :, None]
            scores = scores.view(-1, self.num_heads, tokens, tokens)
        out = self.av(scores.softmax(dim=-1), v)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected

    def position_bias(self) -> Tensor:
        """Return the relative position bias, shape (heads, N, N)."""
        bias: Tensor = self.relative_position_bias_table[self.relative_position_index]  # (N, N, heads)
        return bias.permute(2, 0, 1)


def _blocks(model: Any) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for i, stage in enumerate(model.layers):
        if not isinstance(stage.downsample, nn.Identity):
            found.append((f"layers.{i}.downsample", stage.downsample))
        found += [(f"layers.{i}.blocks.{j}", block) for j, block in enumerate(stage.blocks)]
    return found


def _swin_blocks(model: Any) -> list[SwinTransformerBlock]:
    return [block for stage in model.layers for block in stage.blocks]


def _norm_readers(model: Any) -> list[NormReaders]:
    pairs = []
    for stage in model.layers:
        if not isinstance(stage.downsample, nn.Identity):
            pairs.append(NormReaders(layer_norm(stage.downsample.norm), (stage.downsample.reduction,)))
        for block in stage.blocks:
            pairs += [
                NormReaders(layer_norm(block.norm1), (block.attn.qkv,), padded=True),
                NormReaders(layer_norm(block.norm2), (block.mlp.fc1,)),
            ]
    return pairs


def _merges_before_norm(model: Any) -> bool:
    return all(isinstance(s.downsample, nn.Identity) or hasattr(s.downsample, "reduction") for s in model.layers)


FAMILY = Family(
    name="swin",
    matches=lambda model: isinstance(model, SwinTransformer) and _merges_before_norm(model),
    attention={WindowAttention: PreparedWindowAttention},
    stem=lambda model: model.patch_embed.proj,
    after_gelu=lambda model: [block.mlp.fc2 for block in _swin_blocks(model)],
    norm_readers=_norm_readers,
    blocks=_blocks,
    mlps=lambda model: timm_mlps([pair for pair in _blocks(model) if isinstance(pair[1], SwinTransformerBlock)]),
    full_form=full_swin_transformer,
    heads=lambda model: timm_heads(block.attn for block in _swin_blocks(model)),
)
