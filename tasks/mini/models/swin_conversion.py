"""Start OpenMMLab's Swin from timm's: the same function, other names and another order of channels in patch merging."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from torch.nn import functional

_NAMES = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^layers\.", "stages."),
    (r"\.attn\.", ".attn.w_msa."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
)


def openmmlab_swin_state(timm_state: dict[str, Tensor], window: int) -> dict[str, Tensor]:
    """Return the state of mmdet's or mmseg's `SwinTransformer` for a timm one, without the norms of its outputs.

    The classifier is left out. timm's last norm becomes that of the last output; the others have no counterpart.
    Tables of relative positions of another window size are resized to `window`.
    """
    converted = {}
    for name, value in timm_state.items():
        if name.startswith("head."):
            continue
        if name.endswith("relative_position_bias_table"):
            value = resized_table(value, window)
        if ".downsample." in name:
            value = unfold_order(value)
        converted[_renamed(name)] = value
    return converted


def unfold_order(value: Tensor) -> Tensor:
    """Return a tensor (..., 4C) over merged patches in the order of `nn.Unfold` instead of timm's.

    timm counts column of the patch, row of the patch, channel; `nn.Unfold` counts channel, row, column.
    """
    parts = value.unflatten(-1, (2, 2, -1))  # (..., column, row, channel)
    return parts.transpose(-1, -3).flatten(-3).contiguous()


def resized_table(table: Tensor, window: int) -> Tensor:
    """Return a table of relative positions (offsets, heads) for another window size, bicubic over the same reach."""
    side, wanted = round(len(table) ** 0.5), 2 * window - 1
    if side == wanted:
        return table
    grid = table.T.reshape(1, -1, side, side)
    resized = functional.interpolate(grid, size=(wanted, wanted), mode="bicubic", align_corners=True)
    return torch.flatten(resized[0], 1).T.contiguous()


def _renamed(name: str) -> str:
    # timm keeps a patch merging in the stage behind it, OpenMMLab in the one before.
    if match := re.match(r"^layers\.(\d+)\.downsample\.(.*)$", name):
        return f"stages.{int(match[1]) - 1}.downsample.{match[2]}"
    if name.startswith("norm."):
        return f"norm3.{name.removeprefix('norm.')}"
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name
