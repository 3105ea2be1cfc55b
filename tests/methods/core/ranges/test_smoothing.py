"""Smoothing with a shift leaves the float function, centres the channels and equalises their widths."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.full_with_shifts import prepare_in_full_to_fold
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.ranges.channel_ranges import channel_ranges
from vitptq.methods.core.ranges.smoothing import smooth_behind_layer_norms, smoothing_factors

W4A4 = BitSpec(4, 4)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_fold_leaves_the_float_function(name: str, full: bool) -> None:
    model, images = two_block_models()[name], RandomImages()
    net = (prepare_in_full_to_fold if full else prepare)(model, W4A4)
    (batch,) = images.batches()
    with torch.no_grad():
        expected = model(batch)
        smooth_behind_layer_norms(net, images, 0.5)
        torch.testing.assert_close(net.model(batch), expected, rtol=1e-5, atol=1e-5)


def test_channels_are_centred_and_as_wide_as_alpha_says() -> None:
    net, images = prepare(two_block_models()["ViT"], W4A4), RandomImages()
    smooth_behind_layer_norms(net, images, 1.0)
    slot = net.operands["blocks.1.mlp.fc1.input_operand"]
    low, high = channel_ranges(net, images, [slot])[slot]
    torch.testing.assert_close(high, torch.ones_like(high), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(low, -high, rtol=1e-4, atol=1e-4)


def test_the_factors_by_hand() -> None:
    layer = prepare(two_block_models()["ViT"], W4A4).model.get_submodule("blocks.0.attn.qkv")
    layer.weight.fill_(-4.0)  # type: ignore[operator, union-attr]
    factors = smoothing_factors(torch.full((32,), 9.0), (layer,), 0.5)  # type: ignore[arg-type]
    torch.testing.assert_close(factors, torch.full((32,), 1.5))


def test_without_smoothing_and_centring_nothing_is_folded() -> None:
    net, images = prepare(two_block_models()["ViT"], W4A4), RandomImages()
    before = net.model.get_parameter("blocks.0.norm1.weight").clone()
    smooth_behind_layer_norms(net, images, 0.5, smooth=False, centre=False)
    assert torch.equal(net.model.get_parameter("blocks.0.norm1.weight"), before)
