"""The rotation of scales and shifts from a LayerNorm into the linear layers that read it."""

from __future__ import annotations

from torch import Tensor, nn

from vitptq.methods.core.model.operands import Linear


def fold(norm: nn.LayerNorm, readers: tuple[Linear, ...], r1: Tensor, shift: Tensor) -> None:
    """Make `norm` put out (x + shift) / r1 and let its readers undo it: the float function stays as it was.

    gamma' = gamma / r1, beta' = (beta + shift) / r1, W' = W * r1, b' = b - W shift; `r1`, `shift`: (D,). Where zeros
    are padded between `norm` and its readers, they are to become shift / r1 too, so that is added behind the padding.
    """
    padded = any(reader.behind_padding for reader in readers)
    norm.weight.copy_(norm.weight / r1)
    norm.bias.copy_((norm.bias if padded else norm.bias + shift) / r1)
    for reader in readers:
        if padded:
            reader.shift = (shift if reader.shift is None else reader.shift + shift) / r1
        correction = reader.weight @ shift
        bias: nn.Parameter | None = reader.bias  # Swin's patch merging has none
        if bias is None:
            reader.bias = nn.Parameter(-correction, requires_grad=False)
        else:
            bias.copy_(bias - correction)
        reader.weight.copy_(reader.weight * r1)
