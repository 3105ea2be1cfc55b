"""MPTQ-ViT: folding shift and scale leaves the float function, centres the channels and equalises their widths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.ranges.channel_ranges import channel_ranges
from vitptq.methods.mptq_vit import MPTQViT

W4A4 = BitSpec(4, 4)


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_fold_leaves_the_float_function(name: str) -> None:
    model, images = two_block_models()[name], RandomImages()
    net = prepare(model, W4A4)
    (batch,) = images.batches()
    with torch.no_grad():
        expected = model(batch)
        MPTQViT().fold(net, images)
        torch.testing.assert_close(net.model(batch), expected, rtol=1e-5, atol=1e-5)


def test_channels_are_centred_and_as_wide_as_alpha_says() -> None:
    net, images = prepare(two_block_models()["ViT"], W4A4), RandomImages()
    MPTQViT(alpha=1.0).fold(net, images)
    slot = net.operands["blocks.1.mlp.fc1.input_operand"]
    low, high = channel_ranges(net, images, [slot])[slot]
    torch.testing.assert_close(high, torch.ones_like(high), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(low, -high, rtol=1e-4, atol=1e-4)


def test_the_factors_by_hand() -> None:
    layer = prepare(two_block_models()["ViT"], W4A4).model.get_submodule("blocks.0.attn.qkv")
    layer.weight.fill_(-4.0)  # type: ignore[operator, union-attr]
    factors = MPTQViT(alpha=0.5).factors(torch.full((32,), 9.0), (layer,))  # type: ignore[arg-type]
    torch.testing.assert_close(factors, torch.full((32,), 1.5))


def test_without_smoothing_and_centring_nothing_is_folded() -> None:
    net, images = prepare(two_block_models()["ViT"], W4A4), RandomImages()
    before = net.model.get_parameter("blocks.0.norm1.weight").clone()
    replace(MPTQViT(), smooth=False, centre=False).fold(net, images)
    assert torch.equal(net.model.get_parameter("blocks.0.norm1.weight"), before)


def test_the_grid_behind_gelu_is_the_one_asked_for() -> None:
    images = RandomImages()
    found = {}
    for gelu in ("sign", "one"):
        method = MPTQViT(candidates=4, rounds=1, shifts=3, gelu=gelu)  # type: ignore[arg-type]
        net = method.quantize(two_block_models()["ViT"], images, W4A4)
        found[gelu] = type(net.get_submodule("blocks.0.mlp.fc2.input_operand.quantizer")).__name__
    assert found == {"sign": "TwoScale", "one": "Uniform"}
