"""Swin of mmdet and mmseg, in detectors, segmenters or alone: like timm's, for images of any size.

The library's own code pads maps to a multiple of the window and shifts the windows.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from vitptq.methods.core.model.families import Family, NormReaders, layer_norm
from vitptq.methods.core.model.families.swin import PreparedWindowAttention
from vitptq.methods.core.model.families.vit import timm_heads
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

MODULES = ("mmdet.models.backbones.swin", "mmseg.models.backbones.swin")


def _swin_blocks(model: nn.Module) -> list[Any]:
    return [block for stage in backbone_of(model).stages for block in stage.blocks]


def _norm_readers(model: nn.Module) -> list[NormReaders]:
    """Return the pairs of the blocks and of patch merging; the norms of the outputs are read by neck and heads."""
    pairs = []
    for stage in backbone_of(model).stages:
        for block in stage.blocks:
            pairs += [
                NormReaders(layer_norm(block.norm1), (block.attn.w_msa.qkv,), padded=True),
                NormReaders(layer_norm(block.norm2), (feed_forward(block.ffn)[0],)),
            ]
        if stage.downsample is not None and stage.downsample.norm is not None:  # merging pads before its norm
            pairs.append(NormReaders(layer_norm(stage.downsample.norm), (stage.downsample.reduction,)))
    return pairs


def _blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for i, stage in enumerate(backbone_of(model).stages):
        found += [(f"stages.{i}.blocks.{j}", block) for j, block in enumerate(stage.blocks)]
        if stage.downsample is not None:
            found.append((f"stages.{i}.downsample", stage.downsample))
    return in_model(model, found) + neck_and_head_units(model)


FAMILY = Family(
    name="openmmlab swin",
    matches=has_backbone(*(f"{module}.SwinTransformer" for module in MODULES)),
    attention={f"{module}.WindowMSA": PreparedWindowAttention for module in MODULES},
    stem=lambda model: backbone_of(model).patch_embed.projection,
    after_gelu=lambda model: [reader for block in _swin_blocks(model) for reader in behind_gelu(block.ffn)],
    norm_readers=_norm_readers,
    blocks=_blocks,
    mlps=lambda model: feed_forward_mlps([pair for pair in _blocks(model) if hasattr(pair[1], "ffn")]),
    features=features,
    heads=lambda model: timm_heads(block.attn.w_msa for block in _swin_blocks(model)),
    training_only=("auxiliary_head",),
)
