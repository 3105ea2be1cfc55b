"""Folding a batch normalisation into the convolution before it."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from tests.methods.core.model.hybrid_models import SIDES, randomised
from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.batch_norm import fold_batch_norm
from vitptq.methods.core.model.prepare import prepare

BITS = BitSpec(8, 8)


@pytest.fixture(scope="module", params=SIDES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> nn.Module:
    return randomised(timm.create_model(name, pretrained=False))


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
