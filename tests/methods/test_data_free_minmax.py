"""Data-free MinMax: the origins of its images, drawn from the cell's seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.run.adapter_check import CPU, INPUT, two_block_models
from vitptq.methods.core.datafree.images import black_and_white
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.data_free_minmax import DataFreeMinMax

BITS = BitSpec(4, 4)
FAST = {"batch": 2, "first_steps": 2, "later_steps": 1, "cycles": 2, "learn_steps": 1}


def stem_grid(images: str, seed: int = 0) -> Tensor:
    """Return the grid of the model's input."""
    method = DataFreeMinMax.configured(FAST | {"images": images})
    model = method.quantize(two_block_models()["ViT"], DataFree(INPUT, CPU, seed), BITS)
    quantizer = model.get_submodule("patch_embed.proj.input_operand.quantizer")
    assert isinstance(quantizer, Uniform)
    return quantizer.grid()


@pytest.mark.parametrize("images", ["gaussian", "uniform", "psaq-v1", "psaq-v2"])
def test_images_follow_the_seed_that_the_method_is_told(images: str) -> None:
    assert torch.equal(stem_grid(images), stem_grid(images))
    assert not torch.equal(stem_grid(images), stem_grid(images, seed=1))


def test_uniform_noise_stays_between_black_and_white_and_gaussian_does_not() -> None:
    black, white = black_and_white(INPUT, CPU)
    uniform, gaussian = stem_grid("uniform"), stem_grid("gaussian")
    assert uniform.min() >= black.min() - 0.02 and uniform.max() <= white.max() + 0.02
    assert gaussian.max() > white.max() + 0.5


def test_the_trained_student_is_thrown_away() -> None:
    method = DataFreeMinMax.configured(FAST | {"images": "psaq-v2"})
    original = two_block_models()["ViT"]
    with listening():
        model = method.quantize(original, DataFree(INPUT, CPU), BITS)
    assert torch.equal(model.get_parameter("head.weight"), original.get_parameter("head.weight"))


def test_shorter_generation_is_noted_only_where_images_are_generated() -> None:
    assert DataFreeMinMax(images="gaussian", first_steps=3).notes() == []
    assert DataFreeMinMax(images="psaq-v1", first_steps=3).notes() == ["reduced: batch 32, first_steps 3"]
