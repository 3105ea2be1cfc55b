"""The generation loop, on two-block models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import CPU, INPUT, two_block_models
from vitptq.methods.core.datafree.generate import AttentionOutputs, Recipe, generate, schedule
from vitptq.methods.core.datafree.images import black_and_white, total_variation, variation_target
from vitptq.methods.core.datafree.similarity import Entropy
from vitptq.methods.core.model.prepare import PreparedModel, prepare

GIVEN = DataFree(INPUT, CPU)
QUICK = Recipe(batch=4, steps=4)


def drawing(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def net(name: str = "ViT", bits: str = "W4A4") -> PreparedModel:
    return prepare(two_block_models()[name], BitSpec.parse(bits))


def summed_entropy(model: PreparedModel, images: torch.Tensor) -> float:
    attention = AttentionOutputs(model)
    with torch.no_grad(), attention.watching() as products:
        model.model(images)
    return sum(Entropy()(product, len(images)).item() for product in products)


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_images_stay_in_the_box_and_have_more_entropy_than_noise(name: str) -> None:
    model = net(name)
    images = generate(model, GIVEN, replace(QUICK, steps=40, one_hot=0.0), drawing())
    black, white = black_and_white(INPUT, CPU)
    assert ((images >= black - 1e-5) & (images <= white + 1e-5)).all()
    noise = torch.randn(4, *INPUT.shape, generator=drawing())
    assert summed_entropy(model, images) > summed_entropy(model, noise) + 0.05


def test_total_variation_comes_near_its_target() -> None:
    generator = drawing()
    start = torch.randn(4, *INPUT.shape, generator=generator)
    target = variation_target(4, INPUT, generator)
    images = generate(net(), GIVEN, replace(QUICK, steps=60), drawing())
    assert abs(total_variation(images) - target) < 0.1 * abs(total_variation(start) - target)


def test_class_term_raises_the_probability_of_the_drawn_classes() -> None:
    def loss(weight: float) -> float:
        model = net()
        images = generate(model, GIVEN, replace(QUICK, steps=40, one_hot=weight), drawing(3))
        generator = drawing(3)
        torch.randn(4, *INPUT.shape, generator=generator)
        variation_target(4, INPUT, generator)
        classes = torch.randint(10, (4,), generator=generator)
        return nn.functional.cross_entropy(model.model(images), classes).item()

    assert loss(5.0) < loss(1e-9)


def test_model_without_attention_products_is_unsupported() -> None:
    model = net()
    for product in AttentionOutputs(model).products:
        product.left_operand.role = "input"
    with pytest.raises(Unsupported, match="patch similarity needs attention products"):
        AttentionOutputs(model)


def test_schedule_rises_for_a_fifth_and_falls_to_nothing() -> None:
    factors = [schedule(place, 500) for place in range(500)]
    assert factors[0] == 0.01 and factors[99] == 1 == max(factors)
    assert factors[300] == pytest.approx(0.5) and factors[499] < 1e-4
    assert factors[100:] == sorted(factors[100:], reverse=True)


def test_images_depend_on_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = generate(net(), GIVEN, QUICK, drawing())
    torch.manual_seed(2)
    torch.rand(5)
    assert torch.equal(generate(net(), GIVEN, QUICK, drawing()), first)
    assert not torch.equal(generate(net(), GIVEN, QUICK, drawing(1)), first)
