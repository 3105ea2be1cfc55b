"""PSAQ-ViT V2: which student is returned, the size of the images, and what its records must say."""

from __future__ import annotations

import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.run.adapter_check import CPU, INPUT, two_block_models
from vitptq.methods.psaq_vit_v2 import PsaqVitV2

BITS = BitSpec(4, 4)
FAST = {"batch": 2, "cycles": 2, "first_steps": 2, "later_steps": 1}


def weights(**options: object) -> tuple[dict[str, torch.Tensor], tuple[int, ...]]:
    method = PsaqVitV2.configured(FAST | options)
    with listening() as heard:
        student = method.quantize(two_block_models()["Swin"], DataFree(INPUT, CPU, 1), BITS)
    return dict(student.named_parameters()), heard.images["generated"].shape


def test_the_student_is_trained_unless_it_takes_no_steps() -> None:
    float_weights = dict(two_block_models()["Swin"].named_parameters())
    for steps, changed in ((0, False), (2, True)):
        found, _ = weights(learn_steps=steps, learn_rate=1e-3)
        moved = [name for name, x in float_weights.items() if not torch.equal(found[name], x)]
        assert bool(moved) == changed
        assert not any("norm" in name or "bias_table" in name for name in moved)


def test_images_have_the_side_that_is_asked_for() -> None:
    assert weights(learn_steps=0)[1] == (2, 2, 32, 32, 3)


def test_shorter_training_is_noted() -> None:
    assert PsaqVitV2().notes() == []
    (note,) = PsaqVitV2(cycles=3).notes()
    assert note == "reduced: batch 32, cycles 3, first_steps 500, later_steps 100, learn_steps 100"
