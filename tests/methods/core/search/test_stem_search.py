"""The patch embedding's filters by the error of what they put out on float images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import Conv2d
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search.fpcs import FPCSBudget
from vitptq.methods.core.search.stem_search import search_stem, search_stem_bounds, stem_error, stem_of
from vitptq.methods.core.search.uniform_search import UniformSearch

BUDGET = FPCSBudget(candidates=64, steps=2)


def prepared() -> tuple[PreparedModel, Conv2d]:
    """Return a ViT whose filters are quantised by their own error."""
    net = prepare(two_block_models()["ViT"], BitSpec(3, 3))
    stem = stem_of(net)
    UniformSearch.of_weight(stem, BUDGET).own()
    return net, stem


def output_error(stem: Conv2d) -> Tensor:
    """Return the mean squared error per channel of what the stem puts out on float images, computed by running it."""
    quantizer = stem.weight_operand.quantizer
    assert quantizer is not None
    (images,) = RandomImages().batches()
    change = quantizer(stem.weight) - stem.weight
    convolved: Tensor = nn.functional.conv2d(images, change, stride=stem.stride)
    return convolved.square().mean((0, 2, 3))


@torch.no_grad()
def test_error_is_that_of_the_convolutions_output() -> None:
    net, stem = prepared()
    quantizer = stem.weight_operand.quantizer
    assert isinstance(quantizer, Uniform)
    found = stem_error(net, stem, RandomImages())(quantizer.scale[:, None], quantizer.zero_point[:, None])
    torch.testing.assert_close(found[:, 0], output_error(stem), rtol=1e-4, atol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize(
    "search",
    [lambda net: search_stem(net, RandomImages(), BUDGET), lambda net: search_stem_bounds(net, RandomImages(), 64)],
    ids=["scales and zero points", "bounds"],
)
def test_search_puts_out_less_error_than_the_filters_own_error_does(search: Callable[[PreparedModel], None]) -> None:
    net, stem = prepared()
    before = output_error(stem).sum()
    search(net)
    assert output_error(stem).sum() < before


def test_the_stem_is_the_convolution_that_reads_the_image() -> None:
    net = prepare(two_block_models()["Swin"], BitSpec(4, 4))
    assert stem_of(net) is net.model.get_submodule("patch_embed.proj")
