"""PSAQ-ViT: what it draws follows the cell's seed, and what its records must say."""

from __future__ import annotations

import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.run.adapter_check import CPU, INPUT, two_block_models
from vitptq.methods.psaq_vit import PsaqVit

BITS = BitSpec(4, 4)


def images(seed: int) -> torch.Tensor:
    with listening() as heard:
        PsaqVit(batch=2, steps=2).quantize(two_block_models()["ViT"], DataFree(INPUT, CPU, seed), BITS)
    return torch.from_numpy(heard.images["generated"])


def test_images_follow_the_seed_that_the_method_is_told() -> None:
    assert images(1).shape == (1, 2, 32, 32, 3)
    assert torch.equal(images(1), images(1))
    assert not torch.equal(images(1), images(2))


def test_fewer_steps_or_images_are_noted() -> None:
    assert PsaqVit().notes() == []
    assert PsaqVit(steps=100).notes() == ["reduced: 32 images, 2 x 100 steps"]


def test_the_memory_budget_is_no_part_of_the_identity() -> None:
    assert PsaqVit(budget_mib=8).identity_parameters() == PsaqVit().identity_parameters()
