"""timm's SwinTransformer (version 1) in full form."""

from __future__ import annotations

from typing import Any

from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.full_model import Attention, FullModel, NormPlace, Point, score_bits
from vitptq.methods.core.model.operands import Operand


class FullWindowAttention(Attention):
    """Window attention in full form: products, the table of position biases and their sum are stored."""

    def __init__(self, attention: Any, bits: BitSpec) -> None:
        super().__init__(bits)
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.qkv, self.qk, self.av, self.proj = attention.qkv, attention.qk, attention.av, attention.proj
        self.relative_position_bias_table = attention.relative_position_bias_table
        self.register_buffer("relative_position_index", attention.relative_position_index, persistent=False)
        self.products, self.table = Point(score_bits(bits)), Point(bits.activations)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within windows, shape (windows * B, N, C); `mask` is (windows, N, N) with 0 and -100."""
        windows, tokens, _ = x.shape
        qkv = self.qkv_out(self.qkv(x)).reshape(windows, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (windows * B, heads, N, head_dim)
        bias = self.table(self.relative_position_bias_table)[self.relative_position_index]  # (N, N, heads)
        scores = self.scores(self.products(self.qk(q, k) * self.scale) + bias.permute(2, 0, 1))
        if mask is not None:
            scores = scores.view(-1, len(mask), self.num_heads, tokens, tokens) + mask[None, :, None]
            scores = scores.view(-1, self.num_heads, tokens, tokens)
        out: Tensor = self.av(self.softmax(scores), v)
        projected: Tensor = self.proj_out(self.proj(out.transpose(1, 2).flatten(2)))
        return projected


class FullSwinBlock(SwinTransformerBlock):
    """A block in full form: the residual stream is stored behind either sum."""

    first_sum: Point
    mlp_out: Point
    second_sum: Point

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block, shape (B, H, W, C) to (B, H, W, C)."""
        x = self.first_sum(x + self._attn(self.norm1(x)))  # type: ignore[no-untyped-call]  # timm's
        out: Tensor = self.second_sum(x + self.mlp_out(self.mlp(self.norm2(x))))
        return out


class FullPatchMerging(PatchMerging):
    """Patch merging in full form: its output goes on as the residual stream."""

    reduction_out: Point

    def forward(self, x: Tensor) -> Tensor:
        """Merge patches, shape (B, H, W, C) to (B, H/2, W/2, 2C)."""
        out: Tensor = self.reduction_out(super().forward(x))
        return out


class StoredNorm(nn.Module):
    """A normalisation whose input is stored."""

    def __init__(self, norm: nn.Module, bits: BitSpec) -> None:
        super().__init__()
        self.before, self.norm = Point(bits.activations), norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        out: Tensor = self.norm(self.before(x))
        return out


class FullSwinTransformer(FullModel):
    """Swin in full form; the parts keep timm's names."""

    def __init__(self, model: Any, bits: BitSpec) -> None:
        super().__init__()
        self.patch_embed: Any = model.patch_embed
        self.layers: Any = model.layers
        self.norm, self.head = model.norm, model.head
        self.patch_embed.norm = StoredNorm(model.patch_embed.norm, bits)
        self.embedding, self.norm_out, self.logits = (Point(bits.activations) for _ in range(3))
        for stage in self.layers:
            if isinstance(stage.downsample, PatchMerging):
                stage.downsample.__class__ = FullPatchMerging  # its parts and all else stay as they are
                stage.downsample.reduction_out = Point(bits.activations)
            for block in stage.blocks:
                block.__class__ = FullSwinBlock
                block.attn = FullWindowAttention(block.attn, bits)
                block.first_sum, block.mlp_out, block.second_sum = (Point(bits.activations) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of images (B, 3, H, W)."""
        x = self.layers(self.embedding(self.patch_embed(images)))
        logits: Tensor = self.logits(self.head(self.norm_out(self.norm(x))))
        return logits

    def norms(self) -> list[NormPlace]:
        """Return every LayerNorm with its slots; merging reads four neighbours' channels side by side."""
        found = [NormPlace("patch_embed.norm.norm", self.patch_embed.norm.before, self.embedding)]
        before: Operand = self.embedding
        for i, stage in enumerate(self.layers):
            if isinstance(stage.downsample, FullPatchMerging):
                merging: Any = stage.downsample
                reader = merging.reduction.input_operand
                found.append(NormPlace(f"layers.{i}.downsample.norm", before, reader, copies=4))
                before = merging.reduction_out
            for j, block in enumerate(stage.blocks):
                name = f"layers.{i}.blocks.{j}"
                found.append(NormPlace(f"{name}.norm1", before, block.attn.qkv.input_operand))
                found.append(NormPlace(f"{name}.norm2", block.first_sum, block.mlp.fc1.input_operand))
                before = block.second_sum
        return [*found, NormPlace("norm", before, self.norm_out)]

    def stream(self) -> list[Operand]:
        """Return the slots of the sums and of what leaves a merging; embeddings share one scale."""
        embeddings = (self.patch_embed.norm.before, self.embedding)
        return [place.before for place in self.norms() if place.before not in embeddings]


def full_swin_transformer(model: Any, bits: BitSpec) -> FullSwinTransformer:
    """Return a prepared Swin in full form; refuses what the published form does not have."""
    outside = {
        "embeddings without normalisation": not isinstance(model.patch_embed.norm, nn.LayerNorm),
        "tokens that are not averaged": model.head.global_pool.pool_type != "avg",
        "no classifier": not isinstance(model.head.fc, nn.Linear),
    }
    found = [what for what, is_so in outside.items() if is_so]
    if found:
        raise Unsupported(f"no fully quantised form of a Swin with {' and '.join(found)}")
    return FullSwinTransformer(model, bits)
