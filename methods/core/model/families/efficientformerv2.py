"""timm's EfficientFormerV2: convolutional MLPs, attention on feature maps with talking heads and a local branch."""

from __future__ import annotations

from typing import Any

from timm.models.efficientformer_v2 import Attention2d, Attention2dDownsample, EfficientFormerV2, EfficientFormerV2Block
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec, Role
from vitptq.methods.core.model.batch_norm import fold_batch_norms
from vitptq.methods.core.model.families import Bridge, Family
from vitptq.methods.core.model.operands import MatMul


class _MapAttention(nn.Module):
    """What both attentions share: a bias per head and offset, and products in slots. Positions are the tokens."""

    attention_bias_idxs: Tensor

    def __init__(self, attention: Any, bits: BitSpec, probabilities: Role) -> None:
        super().__init__()
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.q, self.k, self.v, self.v_local = attention.q, attention.k, attention.v, attention.v_local
        self.act, self.proj = attention.act, attention.proj
        self.attention_biases = attention.attention_biases
        self.register_buffer("attention_bias_idxs", attention.attention_bias_idxs, persistent=False)
        self.qk = MatMul("query", "key", bits, transpose=True)
        self.av = MatMul(probabilities, "value", bits)

    def tokens(self, x: Tensor) -> Tensor:
        """Arrange a map (B, heads * d, H, W) as (B, heads, H * W, d)."""
        heads: Tensor = x.flatten(2).unflatten(1, (self.num_heads, -1))  # (B, heads, d, H * W)
        return heads.transpose(2, 3)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the biased scores of two maps, shape (B, heads, N_q, N_k)."""
        bias = self.attention_biases[:, self.attention_bias_idxs]
        scores: Tensor = self.qk(self.tokens(q), self.tokens(k)) * self.scale + bias
        return scores

    def maps(self, probabilities: Tensor, v: Tensor, like: Tensor) -> Tensor:
        """Return A V as a map, shape of `like` (B, heads * d, H, W)."""
        out: Tensor = self.av(probabilities, self.tokens(v))
        return out.transpose(2, 3).reshape(like.shape)


class PreparedMapAttention(_MapAttention):
    """`Attention2d`: talking heads around the softmax, on a map that may be strided before and upsampled after.

    The second talking head mixes the probabilities of all heads with weights of either sign, so what meets the values
    is not a probability any more: the role "softmax" is that head's input.
    """

    def __init__(self, attention: Any, bits: BitSpec) -> None:
        super().__init__(attention, bits, "input")
        self.stride_conv, self.upsample = attention.stride_conv, attention.upsample
        self.talking_head1, self.talking_head2 = attention.talking_head1, attention.talking_head2

    def forward(self, x: Tensor) -> Tensor:
        """Attend, shape (B, C, H, W) to (B, C, H, W)."""
        if self.stride_conv is not None:
            x = self.stride_conv(x)
        v = self.v(x)
        local = self.v_local(v)
        scores = self.talking_head1(self.scores(self.q(x), self.k(x)))
        out = self.maps(self.talking_head2(scores.softmax(dim=-1)), v, like=local) + local
        if self.upsample is not None:
            out = self.upsample(out)
        projected: Tensor = self.proj(self.act(out))
        return projected


class PreparedDownsampleAttention(_MapAttention):
    """`Attention2dDownsample`: the queries come from a strided map, so the output has half the side."""

    def __init__(self, attention: Any, bits: BitSpec) -> None:
        super().__init__(attention, bits, "softmax")

    def forward(self, x: Tensor) -> Tensor:
        """Attend, shape (B, C, H, W) to (B, C', H / 2, W / 2)."""
        v = self.v(x)
        local = self.v_local(v)
        probabilities = self.scores(self.q(x), self.k(x)).softmax(dim=-1)
        projected: Tensor = self.proj(self.act(self.maps(probabilities, v, like=local) + local))
        return projected


def _attentions(model: Any) -> list[Any]:
    kinds = (Attention2d, Attention2dDownsample, _MapAttention)
    return [module for module in model.modules() if isinstance(module, kinds)]


def _blocks(model: Any) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for i, stage in enumerate(model.stages):
        if not isinstance(stage.downsample, nn.Identity):
            found.append((f"stages.{i}.downsample", stage.downsample))
        found += [(f"stages.{i}.blocks.{j}", block) for j, block in enumerate(stage.blocks)]
    return found


def _after_gelu(model: Any) -> list[nn.Module]:
    """Return the convolutions behind an activation: in the stem, the MLPs, and the projection of each attention.

    The stem ends with an activation, which the first MLP reads (the first stages have no attention).
    """
    mlps = [module.mlp for module in model.modules() if isinstance(module, EfficientFormerV2Block)]
    found = [model.stem.conv2.conv, mlps[0].fc1.conv, *(layer.conv for mlp in mlps for layer in (mlp.mid, mlp.fc2))]
    return found + [attention.proj.conv for attention in _attentions(model)]


def _bridges(model: Any) -> list[Bridge]:
    """Return, per stage with attention, the last convolution before its first attention block and q, k, v of it.

    Inferred from the paper's definition. The attention inside `downsample` is not counted: it stays within one map.
    """
    found = []
    for i, stage in enumerate(model.stages):
        with_attention = [j for j, block in enumerate(stage.blocks) if block.token_mixer is not None]
        if with_attention:
            j = with_attention[0]
            before = f"blocks.{j - 1}.mlp.fc2.conv" if j else "downsample.conv.conv"
            readers = tuple(f"stages.{i}.blocks.{j}.token_mixer.{side}.conv" for side in "qkv")
            found.append(Bridge((f"stages.{i}.{before}", *readers), readers, inside=f"stages.{i}"))
    return found


FAMILY = Family(
    name="efficientformerv2",
    matches=lambda model: isinstance(model, EfficientFormerV2),
    attention={Attention2d: PreparedMapAttention, Attention2dDownsample: PreparedDownsampleAttention},
    stem=lambda model: model.stem.conv1.conv,
    after_gelu=_after_gelu,
    after_softmax=lambda model: [a.talking_head2 for a in _attentions(model) if hasattr(a, "talking_head2")],
    norm_readers=lambda model: [],  # batch normalisation throughout
    blocks=_blocks,
    bridges=_bridges,
    fold_batch_norms=fold_batch_norms,
)
