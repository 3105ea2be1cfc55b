"""timm's MobileViT (version 1): inverted residuals, and blocks that unfold patches into a transformer."""

from __future__ import annotations

from typing import Any

from timm.layers.attention import Attention
from timm.models.byobnet import ByobNet
from timm.models.mobilevit import MobileVitBlock, MobileVitV2Block
from torch import nn

from vitptq.methods.core.model.batch_norm import fold_batch_norms
from vitptq.methods.core.model.families import Bridge, Family, NormReaders
from vitptq.methods.core.model.families.vit import PreparedAttention, timm_heads


def hybrid_blocks(model: Any, kind: type[nn.Module]) -> list[tuple[str, Any]]:
    """Return the blocks of class `kind` with their names."""
    return [(name, module) for name, module in model.named_modules() if type(module) is kind]


def byob_units(model: Any, kind: type[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Return the units of reconstruction: the blocks of each stage; those of class `kind` are taken apart.

    A hybrid block holds a transformer of several blocks, so its convolutions and transformer blocks are units of their
    own; each has one tensor as its input and one as its output.
    """
    found: list[tuple[str, nn.Module]] = []
    for i, stage in enumerate(model.stages):
        for j, block in enumerate(stage):
            name = f"stages.{i}.{j}"
            found += hybrid_units(name, block) if type(block) is kind else [(name, block)]
    if not isinstance(model.final_conv, nn.Identity):
        found.append(("final_conv", model.final_conv))
    return found


def hybrid_units(name: str, block: Any) -> list[tuple[str, nn.Module]]:
    """Return the parts of a MobileViT block (either version) in execution order."""
    before, after = ("conv_kxk", "conv_1x1"), ("conv_proj", "conv_fusion")
    parts = [(part, getattr(block, part)) for part in before]
    parts += [(f"transformer.{k}", part) for k, part in enumerate(block.transformer)]
    parts += [(part, getattr(block, part, None)) for part in after]
    return [(f"{name}.{part}", module) for part, module in parts if module is not None]


def bridges(model: Any, kind: type[nn.Module], first: str) -> list[Bridge]:
    """Return a bridge per hybrid block: from its 1x1 convolution to `first`, the first layer that reads tokens."""
    return [
        Bridge((f"{name}.conv_1x1", f"{name}.{first}"), (f"{name}.{first}",), inside=name)
        for name, _ in hybrid_blocks(model, kind)
    ]


def _matches(model: nn.Module) -> bool:
    if not isinstance(model, ByobNet):
        return False
    return bool(hybrid_blocks(model, MobileVitBlock)) and not hybrid_blocks(model, MobileVitV2Block)


def _transformer_blocks(model: Any) -> list[Any]:
    return [part for _, block in hybrid_blocks(model, MobileVitBlock) for part in block.transformer]


def _norm_readers(model: Any) -> list[NormReaders]:
    """Return the two pairs of each transformer block; the last norm of a hybrid block feeds a convolution."""
    pairs = []
    for block in _transformer_blocks(model):
        pairs += [NormReaders(block.norm1, (block.attn.qkv,)), NormReaders(block.norm2, (block.mlp.fc1,))]
    return pairs


FAMILY = Family(
    name="mobilevit",
    matches=_matches,
    attention={Attention: PreparedAttention},
    stem=lambda model: model.stem.conv,
    # the published models use SiLU, whose negative side is deeper than GELU's
    after_gelu=lambda model: [b.mlp.fc2 for b in _transformer_blocks(model) if isinstance(b.mlp.act, nn.GELU)],
    norm_readers=_norm_readers,
    blocks=lambda model: byob_units(model, MobileVitBlock),
    bridges=lambda model: bridges(model, MobileVitBlock, "transformer.0.attn.qkv"),
    fold_batch_norms=fold_batch_norms,
    heads=lambda model: timm_heads(block.attn for block in _transformer_blocks(model)),
)
