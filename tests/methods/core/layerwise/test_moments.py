"""Second moments of what layers read, in the quantised prefix and in the float model."""

from __future__ import annotations

import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.layerwise.moments import ALL, NOTHING, Moments, inputs_of, layer_moments, layers_in_order
from vitptq.methods.core.model.prepare import prepare

LAYER = "blocks.1.attn.proj"


def test_layers_come_in_the_order_in_which_they_run() -> None:
    net = prepare(two_block_models()["ViT"], BitSpec(4, 32))
    order = list(layers_in_order(net, RandomImages()))
    block = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    assert order == ["patch_embed.proj", *(f"blocks.{i}.{name}" for i in range(2) for name in block), "head"]


@torch.no_grad()
def test_moments_are_means_over_tokens_and_the_drift_is_from_the_changed_prefix() -> None:
    net = prepare(two_block_models()["ViT"], BitSpec(4, 32))
    twin = net.twin()
    fc1 = net.layers["blocks.0.mlp.fc1"]
    fc1.weight = torch.nn.Parameter(fc1.weight * 50, requires_grad=False)
    images = RandomImages()
    batch = next(images.batches())
    x, plain = (inputs_of(which, LAYER, 1, images, batch)[0].flatten(0, 1).double() for which in (net, twin))
    found = layer_moments(net, twin, LAYER, 1, images, ALL)
    for moment, expected in (
        (found.gram, x.T @ x), (found.drift, (plain - x).T @ x), (found.float_gram, plain.T @ plain),
    ):  # fmt: skip
        torch.testing.assert_close(moment[0], expected / len(x), rtol=1e-4, atol=1e-5)
    assert found.drift.abs().amax() > 1e-3


def test_equal_prefixes_have_no_drift() -> None:
    net = prepare(two_block_models()["Swin"], BitSpec(4, 32))
    found = layer_moments(net, net.twin(), "layers.1.blocks.0.mlp.fc2", 1, RandomImages(), ALL)
    assert not found.drift.any()
    assert torch.equal(found.gram, found.float_gram)


def test_output_error_is_that_of_the_products() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, rounded, x, plain = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((1, 3, 5), (1, 3, 5), (5, 20), (5, 20))
    )
    moments = Moments((x @ x.T)[None], ((plain - x) @ x.T)[None], (plain @ plain.T)[None])
    expected = (weight @ plain - rounded @ x).square().sum() / (weight @ plain).square().sum()
    assert abs(moments.output_error(weight, rounded) - expected.item()) < 1e-10


def test_layer_that_does_not_run_has_no_moments() -> None:
    net = prepare(two_block_models()["ViT"], BitSpec(4, 32))
    assert layer_moments(net, net.twin(), LAYER, 0, RandomImages(), ALL) is NOTHING
