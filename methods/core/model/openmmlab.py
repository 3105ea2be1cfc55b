"""What the families of OpenMMLab's detectors and segmenters share; imports none of their packages.

Batch normalisation in neck and heads stays apart from the convolution before it: with a grid per output channel, a
factor per output channel in the weight changes no code but for ties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.families import Mlp, full_name
from vitptq.methods.core.model.operands import Layer

UNITS = (
    "neck",
    "rpn_head",
    "roi_head.bbox_head",
    "roi_head.mask_head",
    "decode_head.lateral_convs",  # UPerNet
    "decode_head.psp_modules",
    "decode_head.bottleneck",
    "decode_head.fpn_convs",
    "decode_head.fpn_bottleneck",
    "decode_head.convs",  # FCN
    "decode_head.conv_cat",
    "decode_head.conv_seg",
)
"""Neck and heads as units of reconstruction, in execution order. A list of modules (Cascade R-CNN has three box heads)
is as many units. Heads that are called part by part, or without running their hooks, are given as their parts."""

BEHIND_PROPOSALS = "roi_head"
"""What reads proposals: they depend on the weights, so two models' tensors there are not of the same places."""


def backbone_of(model: Any) -> Any:
    """Return the backbone of a detector or segmenter; a model without one is a backbone itself."""
    backbone = getattr(model, "backbone", None)
    return model if backbone is None else backbone


def has_backbone(*names: str) -> Callable[[nn.Module], bool]:
    """Return a test for models whose backbone is of one of the classes, given by their full names."""
    return lambda model: full_name(backbone_of(model)) in names


def in_model(model: nn.Module, parts: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Return modules of the backbone under their names in `model`."""
    prefix = "" if backbone_of(model) is model else "backbone."
    return [(prefix + name, module) for name, module in parts]


def neck_and_head_units(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the units outside the backbone that hold layers with operands: none where neck and heads stay in float."""
    units = []
    for path in UNITS:
        found = _descendant(model, path)
        parts = found.named_children() if type(found).forward is nn.ModuleList.forward else [("", found)]
        units += [(f"{path}.{name}".rstrip("."), part) for name, part in parts if _layers(part)]
    covered = sum(len(_layers(unit)) for _, unit in units)
    outside = [child for name, child in model.named_children() if name != "backbone"]
    if backbone_of(model) is not model and covered != sum(len(_layers(child)) for child in outside):
        raise Unsupported(
            f"no units of reconstruction for the neck or heads of this {type(model).__name__}; "
            f"known: {', '.join(UNITS)}"
        )
    return units


def _descendant(model: nn.Module, path: str) -> nn.Module:
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Module) else nn.Identity()


def _layers(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, Layer)]


def feed_forward(ffn: Any) -> list[nn.Linear]:
    """Return the linear layers of mmcv's FFN in execution order."""
    return [*(linear for linear, *_ in _hidden(ffn)), ffn.layers[-2]]


def behind_gelu(ffn: Any) -> list[nn.Module]:
    """Return the linear layers of mmcv's FFN whose input has just left a GELU."""
    pairs = zip(_hidden(ffn), feed_forward(ffn)[1:], strict=True)
    return [reader for (_, activation, *_), reader in pairs if isinstance(activation, nn.GELU)]


def feed_forward_mlps(blocks: list[tuple[str, Any]]) -> list[Mlp]:
    """Return the FFNs of blocks, given with their names, as far as they have two layers and a GELU, and no gamma."""
    return [
        Mlp(f"{name}.ffn", f"{name}.ffn.layers.0.0", f"{name}.ffn.layers.0.1", f"{name}.ffn.layers.1")
        for name, block in blocks
        if len(_hidden(block.ffn)) == 1
        and isinstance(block.ffn.layers[0][1], nn.GELU)
        and isinstance(getattr(block.ffn, "gamma2", None), nn.Identity | None)
    ]


def _hidden(ffn: Any) -> list[Any]:
    """Return the hidden parts, each (linear layer, activation, dropout); an output layer and a dropout follow them."""
    return list(ffn.layers)[:-2]


def has_proposals(model: nn.Module) -> bool:
    """Tell whether a model is a two-stage detector, whose last heads run on proposals and not on images."""
    return hasattr(model, "rpn_head") and hasattr(model, "roi_head")


def image_outputs(model: Any, images: Tensor) -> tuple[Tensor, ...]:
    """Return a two-stage detector's outputs for whole images: the neck's levels, scores and deltas of the proposals.

    The heads behind do not run: which proposals their outputs belong to changes with the scores, and on small images
    they take two thirds of a pass.
    """
    found = features(model, images)
    scores, deltas = model.rpn_head(found)
    return (*found, *scores, *deltas)


def features(model: Any, images: Tensor) -> tuple[Tensor, ...]:
    """Return what the heads read: the levels of the feature pyramid, or the maps of a backbone without a neck."""
    return tuple(model(images) if backbone_of(model) is model else model.extract_feat(images))
