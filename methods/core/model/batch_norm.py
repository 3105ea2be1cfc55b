"""Fold batch normalisation into the convolution before it: what is deployed is one convolution, so it is quantised."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

CONVOLUTION_NORMS = (
    ("conv", "bn"),  # timm's ConvNormAct, and ConvNorm of EfficientFormerV2
    ("conv", "norm"),  # Downsample of EfficientFormer
    ("conv1", "norm1"),  # its Stem4
    ("conv2", "norm2"),
    ("fc1", "norm1"),  # its ConvMlpWithNorm
    ("fc2", "norm2"),
)
"""Names under which timm's hybrids keep a convolution and the normalisation that reads its output and nothing else."""


def fold_batch_norms(model: nn.Module) -> None:
    """Fold every pair of `CONVOLUTION_NORMS` in place; the function in eval mode is unchanged up to rounding.

    What a normalisation also holds (dropout and activation in timm's BatchNormAct2d) takes its place.
    """
    for parent, convolution, name in list(_pairs(model)):
        norm = getattr(parent, name)
        fold_batch_norm(convolution, norm)
        # dropout does nothing in eval mode; a plain BatchNorm2d has no activation
        setattr(parent, name, getattr(norm, "act", nn.Identity()))


@torch.no_grad()
def fold_batch_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Let `convolution` put out what `norm` made of its output.

    W' = W * gamma / sqrt(var + eps) per output channel, b' = (b - mean) * gamma / sqrt(var + eps) + beta; in float64,
    so that folding rounds once.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()  # (out,)
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    shift = -norm.running_mean.double()
    if convolution.bias is not None:
        shift = shift + convolution.bias.double()
    bias = shift * factor
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    dtype = convolution.weight.dtype
    weight = convolution.weight.double() * factor[:, None, None, None]
    convolution.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    convolution.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Conv2d, str]]:
    """Yield (parent, convolution, name of the normalisation)."""
    for parent in model.modules():
        for convolution_name, norm_name in CONVOLUTION_NORMS:
            convolution, norm = getattr(parent, convolution_name, None), getattr(parent, norm_name, None)
            if type(convolution) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d):
                yield parent, convolution, norm_name
