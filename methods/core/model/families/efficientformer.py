"""timm's EfficientFormer (version 1): pooling blocks on feature maps, then attention blocks on tokens."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.efficientformer import Attention, EfficientFormer, Flat, MetaBlock1d, MetaBlock2d
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.batch_norm import fold_batch_norms
from vitptq.methods.core.model.families import Bridge, Family, NormReaders
from vitptq.methods.core.model.operands import MatMul


class PreparedBiasAttention(nn.Module):
    """Attention with a bias per head and offset; Q K^T and A V as modules. Float output equals timm's up to rounding.

    The rows of `qkv` are ordered head by head, and within a head as queries, keys, values.
    """

    attention_bias_idxs: Tensor

    def __init__(self, attention: Any, bits: BitSpec) -> None:
        super().__init__()
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.key_dim, self.val_dim = attention.key_dim, attention.val_dim
        self.qkv, self.proj = attention.qkv, attention.proj
        self.attention_biases = attention.attention_biases
        self.register_buffer("attention_bias_idxs", attention.attention_bias_idxs)
        self.qk = MatMul("query", "key", bits, transpose=True)
        self.av = MatMul("softmax", "value", bits)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, shape (B, N, C) to (B, N, C)."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, self.num_heads, -1).permute(0, 2, 1, 3)  # (B, heads, N, 2 d + d_v)
        q, k, v = qkv.split([self.key_dim, self.key_dim, self.val_dim], dim=3)
        scores = self.qk(q, k) * self.scale + self.attention_biases[:, self.attention_bias_idxs]
        out = self.av(scores.softmax(dim=-1), v)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected

    def qkv_groups(self) -> Tensor:
        """Return which of query (0), key (1) and value (2) each row of `qkv` belongs to, shape (rows,)."""
        head = [0] * self.key_dim + [1] * self.key_dim + [2] * self.val_dim
        return torch.tensor(head * self.num_heads)


def _parts(model: Any) -> list[tuple[str, Any]]:
    """Return downsampling layers and blocks in execution order, with their names."""
    found: list[tuple[str, Any]] = []
    for i, stage in enumerate(model.stages):
        if not isinstance(stage.downsample, nn.Identity):
            found.append((f"stages.{i}.downsample", stage.downsample))
        found += [(f"stages.{i}.blocks.{j}", block) for j, block in enumerate(stage.blocks)]
    return found


def _blocks(model: Any) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in _parts(model) if not isinstance(part, Flat)]


def _after_gelu(model: Any) -> list[nn.Module]:
    """Return the second layer of every MLP; the stem's activation is a ReLU."""
    return [part.mlp.fc2 for _, part in _parts(model) if isinstance(part, MetaBlock1d | MetaBlock2d)]


def _norm_readers(model: Any) -> list[NormReaders]:
    """Return the pairs of the attention blocks; what the last norm puts out is averaged before the heads read it."""
    pairs = []
    blocks: list[Any] = [part for _, part in _parts(model) if isinstance(part, MetaBlock1d)]
    for block in blocks:
        pairs += [NormReaders(block.norm1, (block.token_mixer.qkv,)), NormReaders(block.norm2, (block.mlp.fc1,))]
    return pairs


def _bridges(model: Any) -> list[Bridge]:
    """Return the switch from maps to tokens: from the last convolution before it to the first attention."""
    parts = _parts(model)
    found = []
    for place, (name, part) in enumerate(parts):
        if isinstance(part, Flat):
            before, previous = parts[place - 1]
            convolution = f"{before}.mlp.fc2" if isinstance(previous, MetaBlock2d) else f"{before}.conv"
            reader = f"{parts[place + 1][0]}.token_mixer.qkv"
            found.append(Bridge((convolution, reader), (reader,), inside=name.partition(".blocks")[0]))
    return found


FAMILY = Family(
    name="efficientformer",
    matches=lambda model: isinstance(model, EfficientFormer),
    attention={Attention: PreparedBiasAttention},
    stem=lambda model: model.stem.conv1,
    after_gelu=_after_gelu,
    norm_readers=_norm_readers,
    blocks=_blocks,
    bridges=_bridges,
    fold_batch_norms=fold_batch_norms,
)
