"""DopQ-ViT: what the median scale does, and where it equals I&S-ViT."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.methods.models_to_fold import model_to_fold
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.dopq_vit import DopQViT, centre
from vitptq.methods.is_vit import ISViT

BITS = BitSpec(4, 4)


@pytest.fixture(params=["ViT", "Swin"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return model_to_fold(request.param)


def images() -> Tensor:
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def apart(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def test_without_training_the_one_scale_cancels(model: nn.Module) -> None:
    outs = []
    for rule in ("mean", "median"):
        quantised = DopQViT(iterations=0, scale_rule=rule).quantize(model, RandomImages(), BITS)
        with torch.no_grad():
            outs.append(quantised(images()))
    assert apart(*outs) < 1e-2
    other = DopQViT(iterations=0, softmax="sulq").quantize(model, RandomImages(), BITS)
    with torch.no_grad():
        assert apart(other(images()), outs[1]) > 1e-2


def test_with_the_parts_of_the_one_the_other_is_the_same() -> None:
    model = two_block_models()["ViT"]
    outs = []
    for method in (DopQViT(iterations=3, softmax="sulq", scale_rule="mean"), ISViT(iterations=3)):
        torch.manual_seed(3)
        outs.append(method.quantize(model, RandomImages(), BITS)(images()))
    assert torch.equal(*outs)


def test_the_median_has_the_least_mean_absolute_deviation() -> None:
    scales = torch.tensor([1.0, 2.0, 3.0, 10.0])
    assert centre(scales, "median").item() == 2.5
    assert centre(scales, "mean").item() == 4.0
    assert (scales - 2.5).abs().sum() < (scales - 4).abs().sum()
