"""timm's VisionTransformer in full form: ViT and DeiT with a class token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.full_model import Attention, FullModel, NormPlace, Point, computes
from vitptq.methods.core.model.operands import Operand


class FullAttention(Attention):
    """Self-attention in full form."""

    def __init__(self, attention: Any, bits: BitSpec) -> None:
        super().__init__(bits)
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.qkv, self.qk, self.av, self.proj = attention.qkv, attention.qk, attention.av, attention.proj

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend, shape (B, N, C) to (B, N, C)."""
        batch, tokens, _ = x.shape
        qkv = self.qkv_out(self.qkv(x)).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, N, head_dim)
        scores = self.scores(self.qk(q, k) * self.scale)
        out: Tensor = self.av(self.softmax(scores), v)
        projected: Tensor = self.proj_out(self.proj(out.transpose(1, 2).flatten(2)))
        return projected


class FullBlock(nn.Module):
    """A transformer block in full form: the residual stream is stored behind either sum."""

    def __init__(self, block: Any, bits: BitSpec) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = block.norm1, FullAttention(block.attn, bits), block.norm2
        self.mlp = block.mlp
        self.first_sum, self.mlp_out, self.second_sum = (Point(bits.activations) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block, shape (B, N, C) to (B, N, C)."""
        x = self.first_sum(x + self.attn(self.norm1(x)))
        out: Tensor = self.second_sum(x + self.mlp_out(self.mlp(self.norm2(x))))
        return out


class FullVisionTransformer(FullModel):
    """ViT and DeiT in full form; the parts keep timm's names."""

    def __init__(self, model: Any, bits: BitSpec) -> None:
        super().__init__()
        self.patch_embed, self.cls_token, self.pos_embed = model.patch_embed, model.cls_token, model.pos_embed
        self.blocks = nn.ModuleList(FullBlock(block, bits) for block in model.blocks)
        self.norm, self.head = model.norm, model.head
        self.patches, self.with_class_token, self.positions, self.embedding, self.logits = (
            Point(bits.activations) for _ in range(5)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of images (B, 3, H, W)."""
        x = self.patches(self.patch_embed(images))
        x = self.with_class_token(torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1))
        x = self.embedding(x + self.positions(self.pos_embed))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.logits(self.head(self.norm(x[:, 0])))
        return logits

    def norms(self) -> list[NormPlace]:
        """Return every LayerNorm with its slots; the last one reads the class token alone."""
        found, before = [], self.embedding
        for i, block in enumerate(self.blocks):
            assert isinstance(block, FullBlock)
            found.append(NormPlace(f"blocks.{i}.norm1", before, block.attn.qkv.input_operand))
            found.append(NormPlace(f"blocks.{i}.norm2", block.first_sum, block.mlp.fc1.input_operand))
            before = block.second_sum
        return [*found, NormPlace("norm", before, self.head.input_operand)]

    def stream(self) -> list[Operand]:
        """Return the slots of the embedding and of the sums."""
        return [place.before for place in self.norms()]


def full_vision_transformer(model: Any, bits: BitSpec) -> FullVisionTransformer:
    """Return a prepared ViT in full form; refuses what the published form does not have."""
    outside = {
        "no class token": model.cls_token is None,
        "register tokens": model.reg_token is not None,
        "no position for its class token": model.no_embed_class,
        "no positions": model.pos_embed is None,
        "images of any size": model.dynamic_img_size,
        "pooled tokens": model.global_pool != "token" or model.attn_pool is not None,
        "normalised embeddings": computes(model.patch_embed.norm, model.norm_pre, model.fc_norm),
        "layer scale": any(computes(b.ls1, b.ls2) for b in model.blocks),
        "normalised attention": any(computes(b.attn.q_norm, b.attn.k_norm, b.attn.norm) for b in model.blocks),
        "a normalised MLP": any(computes(b.mlp.norm) for b in model.blocks),
        "no classifier": not isinstance(model.head, nn.Linear),
    }
    found = [what for what, is_so in outside.items() if is_so]
    if found:
        raise Unsupported(f"no fully quantised form of a ViT with {' and '.join(found)}")
    return FullVisionTransformer(model, bits)
