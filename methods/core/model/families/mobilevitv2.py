"""timm's MobileViTv2: separable self-attention, linear in the number of tokens.

It has no product of two activations: context = sum over tokens of softmax(q) * k, out = relu(v) * context, element by
element. The operands are those of the convolutions; the element-wise products count as arithmetic and stay in float.
"""

from __future__ import annotations

from timm.models.byobnet import ByobNet
from timm.models.mobilevit import MobileVitBlock, MobileVitV2Block
from torch import nn

from vitptq.methods.core.model.batch_norm import fold_batch_norms
from vitptq.methods.core.model.families import Family
from vitptq.methods.core.model.families.mobilevit import bridges, byob_units, hybrid_blocks


def _matches(model: nn.Module) -> bool:
    if not isinstance(model, ByobNet):
        return False
    return bool(hybrid_blocks(model, MobileVitV2Block)) and not hybrid_blocks(model, MobileVitBlock)


FAMILY = Family(
    name="mobilevitv2",
    matches=_matches,
    attention={},
    stem=lambda model: model.stem.conv,
    after_gelu=lambda model: [],  # SiLU throughout
    norm_readers=lambda model: [],  # group normalisations, which feed convolutions
    blocks=lambda model: byob_units(model, MobileVitV2Block),
    bridges=lambda model: bridges(model, MobileVitV2Block, "transformer.0.attn.qkv_proj"),
    fold_batch_norms=fold_batch_norms,
)
