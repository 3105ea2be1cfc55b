"""Scales and shifts that move from a LayerNorm into the linear layers that read it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitptq.methods.core.model.operands import Linear


@torch.no_grad()
def fold_into_layer_norm(norm: nn.LayerNorm, readers: Sequence[Linear], *, scale: Tensor, shift: Tensor) -> None:
    """Make `norm` put out (x + shift) / scale and let its readers undo it: the float function stays as it was.

    gamma' = gamma / scale, beta' = (beta + shift) / scale, W' = W * scale, b' = b - W shift; `scale`, `shift`: (D,), of
    the norm's D channels (`PreparedModel.norm_readers` has the pairs). RepQ-ViT (arXiv 2212.08254, section 3.3) calls
    `scale` r1. Where zeros are padded between `norm` and its readers, they are to become shift / scale too, so that is
    added behind the padding.
    """
    padded = any(reader.behind_padding for reader in readers)
    norm.weight.copy_(norm.weight / scale)
    norm.bias.copy_((norm.bias if padded else norm.bias + shift) / scale)
    for reader in readers:
        if padded:
            reader.shift = (shift if reader.shift is None else reader.shift + shift) / scale
        correction = reader.weight @ shift
        bias: nn.Parameter | None = reader.bias  # Swin's patch merging has none
        if bias is None:
            reader.bias = nn.Parameter(-correction, requires_grad=False)
        else:
            bias.copy_(bias - correction)
        reader.weight.copy_(reader.weight * scale)
