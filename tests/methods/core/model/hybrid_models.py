"""Real hybrid architectures with values as after training, where a wrong fold would show."""

from __future__ import annotations

import torch
from torch import nn

SIDES = {"mobilevit_xxs": 256, "mobilevitv2_050": 256, "efficientformer_l1": 224, "efficientformerv2_s0": 224}
"""The input size of each timm model."""


def randomised(model: nn.Module) -> nn.Module:
    """Give normalisations and layer scales values as after training: fresh ones would hide a wrong fold."""
    torch.manual_seed(5)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.2)
            if hasattr(module, "gamma"):
                module.gamma.uniform_(0.2, 0.5)
            if hasattr(module, "attention_biases"):
                module.attention_biases.normal_()
    return model.eval()
