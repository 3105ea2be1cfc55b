"""What factors leave of a layer's output."""

from __future__ import annotations

import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.layerwise.moments import inputs_of
from vitptq.methods.core.lowrank.components import plain
from vitptq.methods.core.lowrank.error_moments import LayerStep, error_moments
from vitptq.methods.core.lowrank.factored import as_linear
from vitptq.methods.core.model.prepare import prepare

NAME = "blocks.1.mlp.fc1"


def test_constant_is_the_mean_normalised_error_behind_the_changed_layers() -> None:
    images = RandomImages()
    net = prepare(two_block_models()["ViT"], BitSpec(32, 32))
    twin = net.twin()
    before = as_linear(net.model, "blocks.0.mlp.fc1")
    before.weight = torch.nn.Parameter(before.weight * 30, requires_grad=False)
    weight = as_linear(net.model, NAME).weight
    left, right = plain(weight.double()).factors(3)
    with torch.no_grad():
        found = error_moments(LayerStep(net, twin, NAME, images), (left, right))
        batch = next(images.batches())
        x, plain_x = (inputs_of(which, NAME, 1, images, batch)[0].flatten(0, 1) for which in (net, twin))
        y = plain_x @ weight.T
        error = (y - x @ (left @ right).float().T).square().sum(1) / y.square().sum(1)
    torch.testing.assert_close(found.constant.float(), error.mean(), rtol=1e-4, atol=0)
    assert found.error.shape == weight.shape
