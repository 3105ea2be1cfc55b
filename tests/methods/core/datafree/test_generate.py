"""The generation loop and the game, on two-block models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.core.model.openmmlab_models import mask_rcnn, upernet
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import CPU, INPUT, two_block_models
from vitptq.bench.run.cell_run import fingerprint, seed_everything
from vitptq.methods.core.datafree import adversarial
from vitptq.methods.core.datafree.generate import Attended, Recipe, generate
from vitptq.methods.core.datafree.images import box, total_variation, variation_target
from vitptq.methods.core.datafree.similarity import Entropy
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.psaq_vit import PsaqVit
from vitptq.methods.psaq_vit_v2 import PsaqVitV2

GIVEN = DataFree(INPUT, CPU)
QUICK = Recipe(batch=4, steps=4)


def net(name: str = "ViT", bits: str = "W4A4") -> PreparedModel:
    return prepare(two_block_models()[name], BitSpec.parse(bits))


def summed_entropy(model: PreparedModel, images: torch.Tensor) -> float:
    attended = Attended(model)
    with torch.no_grad(), attended.watching() as products:
        model.model(images)
    return sum(Entropy()(product, len(images)).item() for product in products)


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_images_stay_in_the_box_and_have_more_entropy_than_noise(name: str) -> None:
    seed_everything(0)
    model = net(name)
    images = generate(model, GIVEN, replace(QUICK, steps=40, one_hot=0.0))
    black, white = box(INPUT, CPU)
    assert ((images >= black - 1e-5) & (images <= white + 1e-5)).all()
    seed_everything(0)
    assert summed_entropy(model, images) > summed_entropy(model, torch.randn(4, *INPUT.shape)) + 0.05


def test_total_variation_comes_near_its_target() -> None:
    seed_everything(0)
    start = torch.randn(4, *INPUT.shape)
    target = variation_target(4, INPUT)
    seed_everything(0)
    images = generate(net(), GIVEN, replace(QUICK, steps=60))
    assert abs(total_variation(images) - target) < 0.1 * abs(total_variation(start) - target)


def test_class_term_raises_the_probability_of_the_drawn_classes() -> None:
    def loss(weight: float) -> float:
        seed_everything(3)
        model = net()
        images = generate(model, GIVEN, replace(QUICK, steps=40, one_hot=weight))
        seed_everything(3)
        torch.randn(4, *INPUT.shape)
        variation_target(4, INPUT)
        return nn.functional.cross_entropy(model.model(images), torch.randint(10, (4,))).item()

    assert loss(5.0) < loss(1e-9)


def test_game_without_student_and_gap_makes_the_images_of_v1_without_classes() -> None:
    seed_everything(0)
    alone = generate(net(), GIVEN, replace(QUICK, one_hot=0.0))
    seed_everything(0)
    rules = adversarial.Rules(replace(QUICK, one_hot=0.0), QUICK, cycles=1, learn_steps=0, weight=0.0)
    assert torch.equal(adversarial.play(net(), net(), GIVEN, rules).pool[0], alone)


def test_student_closes_the_gap_within_every_cycle_and_the_teacher_stays() -> None:
    seed_everything(0)
    teacher, student = net(), net()
    before = fingerprint(teacher.model)
    recipe = replace(QUICK, steps=3, one_hot=0.0)
    played = adversarial.play(
        teacher, student, GIVEN, adversarial.Rules(recipe, recipe, cycles=2, learn_steps=30, learn_rate=1e-3)
    )
    assert all(after < start for start, after in played.history)
    assert len(played.pool) == 2
    assert fingerprint(teacher.model) == before


def test_gap_term_makes_images_that_widen_the_gap_to_the_student_as_it_is() -> None:
    def gap(weight: float) -> float:
        seed_everything(0)
        teacher, student = net(bits="W3A3"), net(bits="W3A3")
        adversarial.set_ranges(student, GIVEN, [torch.randn(4, *INPUT.shape)])
        against = adversarial._against(student, weight)
        images = generate(teacher, GIVEN, replace(QUICK, steps=30, one_hot=0.0), against)
        return adversarial.mean_discrepancy(teacher, student, [images])

    assert gap(100.0) > gap(0.0) + 0.02


def test_gradient_of_weights_ignores_rounding_and_clipping() -> None:
    student = net(bits="W3A8")
    adversarial.set_ranges(student, GIVEN, [torch.randn(2, *INPUT.shape)])
    with adversarial._trained(student):
        adversarial._follow(student)
        name, operand = next(iter(student.weights.items()))
        weight = student.weight(operand)
        operand(weight).sum().backward()
        assert torch.equal(weight.grad, torch.ones_like(weight)), name


def test_model_without_attention_products_is_unsupported() -> None:
    model = net()
    for product in Attended(model).products:
        product.left_operand.role = "input"
    with pytest.raises(Unsupported, match="patch similarity needs attention products"):
        Attended(model)


@pytest.mark.parametrize("cls", [PsaqVit, PsaqVitV2])
def test_kept_images_repeat_the_calibration(cls: type[PsaqVit] | type[PsaqVitV2], tmp_path: Path) -> None:
    model, bits = two_block_models()["ViT"], BitSpec(4, 4)
    settings = dict(cls.trial) | ({"learn_steps": 0} if cls is PsaqVitV2 else {})
    seed_everything(0)
    with listening() as heard:
        first = cls.configured(settings).quantize(model, GIVEN, bits)
    assert heard.details["generation_s"] > 0
    np.savez_compressed(tmp_path / "kept.npz", **heard.images)
    seed_everything(1)
    again = cls.configured({"kept": str(tmp_path / "kept.npz")}).quantize(model, GIVEN, bits)
    images = torch.randn(3, *INPUT.shape)
    with torch.no_grad():
        assert torch.equal(first(images), again(images))


@pytest.mark.parametrize("build", [mask_rcnn, upernet])
def test_game_works_on_a_detector_and_a_segmenter(build: Callable[[], nn.Module]) -> None:
    pytest.importorskip("mmdet")
    pytest.importorskip("mmseg")
    settings = {"batch": 2, "side": 32, "cycles": 1, "first_steps": 2, "learn_steps": 12, "learn_rate": 1e-4}
    seed_everything(0)
    with listening() as heard:
        quantised = PsaqVitV2.configured(settings).quantize(build(), GIVEN, BitSpec(4, 4))
    ((before, after),) = heard.details["discrepancy_before_and_after_learning_by_cycle"]
    assert after < before
    assert heard.images["generated"].shape == (1, 2, 32, 32, 3)
    assert any(operand.on for operand in quantised.modules() if isinstance(operand, Operand))
