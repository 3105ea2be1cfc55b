"""How often the host waits for a GPU, counted on the emulated one: not more often for more images, candidates or steps.

Each case is a method at two sizes of the same work. Whatever is read per batch, per step or per candidate shows as a
difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.emulated_cuda import GPU, emulated_cuda
from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.run.adapter_check import INPUT, RandomImages, random_images, two_block_models
from vitptq.bench.run.cell_run import seed_everything

BITS = BitSpec(4, 4)
HARNESS = ("tests/", "vitptq/bench/")
"""Where images come from: each batch is copied to the GPU."""


class Batches(RandomImages):
    """So many batches of four images on the GPU."""

    def __init__(self, count: int) -> None:
        super().__init__(GPU)
        self.count = count

    def batches(self) -> Iterator[Tensor]:
        for number in range(self.count):
            yield random_images(4, number, GPU)


def waits(name: str, batches: int = 2, **parameters: Any) -> Counter[str]:
    """Return how often each line had the host wait for the GPU, or copy to it, while a method worked."""
    cls = registry.method(name)
    method = cls.configured({**cls.trial, **parameters})
    with emulated_cuda() as emulation:
        model = two_block_models()["ViT"].to(GPU)
        seed_everything(0)
        data_free = method.category == "data-free"
        given: Any = DataFree(INPUT, GPU, 0) if data_free else Batches(batches)
        emulation.waits.clear()
        emulation.uploads.clear()
        method.quantize(model, given, BITS)
        found = emulation.waits + emulation.uploads
        return Counter({line: n for line, n in found.items() if not line.startswith(HARNESS)})


@pytest.mark.parametrize("name", ["minmax", "omse", "repq-vit", "fq-vit", "fq-vit-operands"])
def test_more_batches_make_no_calibration_wait_more_often(name: str) -> None:
    assert not waits(name, 5) - waits(name, 2)


@pytest.mark.parametrize("name", ["easyquant", "ptq4vit"])
def test_more_candidates_make_no_search_wait_more_often(name: str) -> None:
    few, many = (sum(waits(name, candidates=count, rounds=1).values()) for count in (20, 100))
    assert many <= few * 1.2  # which candidates are left differs, so a search may look once more


@pytest.mark.parametrize("name", ["apq-vit", "tsptq-vit"])
def test_a_search_that_runs_a_module_per_candidate_waits_once_per_slot(name: str) -> None:
    few, many = (waits(name, candidates=count, rounds=1) for count in (4, 8))
    assert not many - few


@pytest.mark.parametrize("name", ["brecq", "mgrq", "adalog"])
def test_more_steps_make_no_reconstruction_wait_more_often(name: str) -> None:
    few, many = (waits(name, iterations=steps) for steps in (2, 8))
    told = "methods/core/reconstruct/engine.py"  # the loss, told once a second
    assert not Counter({line: n for line, n in (many - few).items() if told not in line})


def test_more_steps_make_no_image_wait_more_often() -> None:
    assert not waits("psaq-vit", steps=8) - waits("psaq-vit", steps=3)


def test_an_evaluation_waits_once() -> None:
    cls = registry.method("fq-vit")
    with emulated_cuda() as emulation, torch.no_grad():
        quantised = cls.configured(cls.trial).quantize(two_block_models()["ViT"].to(GPU), Batches(1), BITS).eval()
        images = random_images(4, 1, GPU)
        emulation.waits.clear()
        emulation.uploads.clear()
        quantised(images)
        assert not emulation.waits and not emulation.uploads
