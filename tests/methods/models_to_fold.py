"""Two-block models whose LayerNorms give a method something to fold."""

from __future__ import annotations

import torch
from torch import nn

from vitptq.bench.run.adapter_check import two_block_models


@torch.no_grad()
def model_to_fold(name: str) -> nn.Module:
    """Return the random "ViT" or "Swin" with uneven norms: those of random weights are tame."""
    net = two_block_models()[name]
    for module in net.modules():
        if isinstance(module, nn.LayerNorm):
            generator = torch.Generator().manual_seed(5)
            module.weight.mul_(torch.rand(module.weight.shape, generator=generator) * 3 + 0.2)
            module.bias.add_(torch.randn(module.bias.shape, generator=generator))
    return net
