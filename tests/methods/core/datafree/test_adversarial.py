"""Adversarial generation, on two-block models, a detector and a segmenter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.methods.core.model.openmmlab_models import mask_rcnn, upernet
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.run.adapter_check import CPU, INPUT, two_block_models
from vitptq.bench.run.cell_run import fingerprint
from vitptq.methods.core.datafree import adversarial
from vitptq.methods.core.datafree.generate import Recipe, generate
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.psaq_vit_v2 import PsaqVitV2

GIVEN = DataFree(INPUT, CPU)
QUICK = Recipe(batch=4, steps=4)


def drawing(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def net(bits: str = "W4A4") -> PreparedModel:
    return prepare(two_block_models()["ViT"], BitSpec.parse(bits))


def test_without_student_and_gap_it_makes_the_images_of_v1_without_classes() -> None:
    alone = generate(net(), GIVEN, replace(QUICK, one_hot=0.0), drawing())
    settings = adversarial.AdversarialSettings(replace(QUICK, one_hot=0.0), QUICK, cycles=1, learn_steps=0, weight=0.0)
    result = adversarial.train_adversarially(net(), net(), GIVEN, settings, drawing())
    assert torch.equal(result.pool[0], alone)


def test_student_closes_the_gap_within_every_cycle_and_the_teacher_stays() -> None:
    teacher, student = net(), net()
    before = fingerprint(teacher.model)
    recipe = replace(QUICK, steps=3, one_hot=0.0)
    settings = adversarial.AdversarialSettings(recipe, recipe, cycles=2, learn_steps=30, learn_rate=1e-3)
    result = adversarial.train_adversarially(teacher, student, GIVEN, settings, drawing())
    assert all(after < start for start, after in result.history)
    assert len(result.pool) == 2
    assert fingerprint(teacher.model) == before


def test_gap_term_makes_images_that_widen_the_gap_to_the_student_as_it_is() -> None:
    def gap(weight: float) -> float:
        teacher, student = net(bits="W3A3"), net(bits="W3A3")
        adversarial.set_ranges(student, GIVEN, [torch.randn(4, *INPUT.shape, generator=drawing())])
        against = adversarial._discrepancy_term(student, weight)
        images = generate(teacher, GIVEN, replace(QUICK, steps=30, one_hot=0.0), drawing(), extra=against)
        return adversarial.mean_discrepancy(teacher, student, [images])

    assert gap(100.0) > gap(0.0) + 0.02


def test_gradient_of_weights_ignores_rounding_and_clipping() -> None:
    student = net(bits="W3A8")
    adversarial.set_ranges(student, GIVEN, [torch.randn(2, *INPUT.shape)])
    with adversarial._trainable(student):
        adversarial._follow_weights(student)
        name, operand = next(iter(student.weights.items()))
        weight = student.weight(operand)
        operand(weight).sum().backward()
        assert torch.equal(weight.grad, torch.ones_like(weight)), name


@pytest.mark.parametrize("build", [mask_rcnn, upernet])
def test_it_works_on_a_detector_and_a_segmenter(build: Callable[[], nn.Module]) -> None:
    pytest.importorskip("mmdet")
    pytest.importorskip("mmseg")
    settings = {"batch": 2, "side": 32, "cycles": 1, "first_steps": 2, "learn_steps": 12, "learn_rate": 1e-4}
    with listening() as heard:
        quantised = PsaqVitV2.configured(settings).quantize(build(), GIVEN, BitSpec(4, 4))
    ((before, after),) = heard.figures["discrepancy_before_and_after_learning_by_cycle"]
    assert after < before
    assert heard.images["generated"].shape == (1, 2, 32, 32, 3)
    assert any(operand.on for operand in quantised.modules() if isinstance(operand, Operand))
