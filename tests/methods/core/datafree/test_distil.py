"""The student: its losses by hand, what is trained, and that it comes nearer to its teacher."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.run.adapter_check import CPU, INPUT, random_images, two_block_models
from vitptq.methods.core.datafree.distil import (
    Distillation,
    as_student,
    attention_distance,
    random_view,
    soft_divergence,
    token_weights,
)
from vitptq.methods.core.datafree.for_two_models import logits_of
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.maskaq import set_ranges

IMAGES = random_images(16, 5, CPU)
FAST = Distillation(batch=8, epochs=4, rate=1e-2)


def models(name: str = "ViT") -> tuple[PreparedModel, PreparedModel]:
    teacher, student = (prepare(two_block_models()[name], BitSpec(4, 4)) for _ in range(2))
    set_ranges(student, DataFree(INPUT, CPU, 0), [IMAGES])
    return teacher, student


def trained(settings: Distillation, epochs: int, name: str = "ViT") -> tuple[PreparedModel, list[float]]:
    teacher, student = models(name)
    generator = torch.Generator().manual_seed(0)
    with as_student(student, teacher, IMAGES, settings) as learner:
        losses = [learner.epoch(IMAGES, INPUT, generator) for _ in range(epochs)]
    return student, losses


def test_equal_predictions_and_outputs_have_no_loss() -> None:
    logits, outputs = torch.randn(3, 7), [torch.randn(3, 2, 9, 4)]
    assert soft_divergence(logits, logits, 5.0) == pytest.approx(0, abs=1e-5)
    assert attention_distance(outputs, outputs, 1) == pytest.approx(0, abs=1e-4)
    assert attention_distance(outputs, [-x for x in outputs], 1) > 1.5


def test_the_divergence_by_hand() -> None:
    wanted, found = torch.tensor([[0.0, 5.0]]), torch.tensor([[0.0, 0.0]])
    p = torch.tensor([[0.0, 1.0]]).softmax(-1)
    expected = 25 * (p * (p.log() - torch.tensor(0.5).log())).sum()
    assert soft_divergence(found, wanted, 5.0) == pytest.approx(float(expected), abs=1e-5)


def test_tokens_of_largest_output_count_twice() -> None:
    outputs = torch.ones(1, 2, 20, 3)
    outputs[:, :, [4, 9]] = -3
    weights = token_weights(outputs)[0]
    assert weights[[4, 9]].tolist() == [2, 2] and weights.sum() == 22


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_loss_falls_and_a_student_that_was_led_astray_predicts_like_its_teacher_again(name: str) -> None:
    teacher, student = models(name)
    bias = "head.bias" if name == "ViT" else "head.fc.bias"
    with torch.no_grad():
        student.model.get_parameter(bias).copy_(torch.linspace(-2, 2, 10))
        wanted = logits_of(teacher, IMAGES)
        before = soft_divergence(logits_of(student, IMAGES), wanted, 1.0)
    with as_student(student, teacher, IMAGES, Distillation(batch=8, epochs=20, rate=2e-2)) as learner:
        losses = [learner.epoch(IMAGES, INPUT, torch.Generator().manual_seed(0)) for _ in range(20)]
    with torch.no_grad():
        after = soft_divergence(logits_of(student, IMAGES), wanted, 1.0)
    assert losses[-1] < losses[0] / 2
    assert after < before / 2


def test_weights_norms_and_step_sizes_are_trained_and_end_without_gradients() -> None:
    _, start = models()
    student, _ = trained(FAST, 2)
    for name in ("blocks.0.mlp.fc1.weight", "blocks.1.norm1.weight", "pos_embed"):
        assert not torch.equal(student.model.get_parameter(name), start.model.get_parameter(name)), name
    pairs = [(start.operands[name].quantizer, slot.quantizer) for name, slot in student.activations.items()]
    assert all(isinstance(a, Uniform) and isinstance(b, Uniform) for a, b in pairs)
    assert any(not torch.equal(a.scale, b.scale) for a, b in pairs)  # type: ignore[union-attr, arg-type]
    assert not any(p.requires_grad for p in student.model.parameters())
    assert not any(b.scale.requires_grad for _, b in pairs)  # type: ignore[union-attr]
    assert all(slot.on for slot in student.operands.values())


def test_the_same_seed_trains_the_same_student() -> None:
    one, other = (trained(FAST, 1)[0].model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_view_is_drawn_from_the_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = random_view(IMAGES, INPUT, torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(one, random_view(IMAGES, INPUT, torch.Generator().manual_seed(3)))
    assert one.shape == IMAGES.shape and not torch.equal(one, IMAGES)
