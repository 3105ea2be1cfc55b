"""Folding a batch normalisation into the convolution before it."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.batch_norm import fold_batch_norm
from vitptq.methods.core.model.prepare import prepare

BITS = BitSpec(8, 8)
SIDES = {"mobilevit_xxs": 256, "mobilevitv2_050": 256, "efficientformer_l1": 224, "efficientformerv2_s0": 224}


@pytest.fixture(scope="module", params=SIDES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> nn.Module:
    return randomised(timm.create_model(name, pretrained=False))


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


def test_no_batch_norm_stays_behind_a_convolution(name: str, model: nn.Module) -> None:
    left = [n for n, m in prepare(model, BITS).model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert left == (["norm"] if name.startswith("efficientformerv2") else [])  # that one is followed by the pooling


def test_one_fold_by_hand() -> None:
    convolution, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0).eval()
    with torch.no_grad():
        convolution.weight.fill_(3)
        convolution.bias.fill_(1)
        norm.weight.fill_(2)
        norm.bias.fill_(0.5)
        norm.running_mean.fill_(5)
        norm.running_var.fill_(4)
        fold_batch_norm(convolution, norm)
    assert convolution.weight.item() == 3  # 3 * 2 / sqrt(4)
    assert convolution.bias.item() == -3.5  # (1 - 5) * 2 / sqrt(4) + 0.5
