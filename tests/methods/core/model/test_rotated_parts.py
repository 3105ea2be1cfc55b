"""Weights that a rotation rewrites: read in float64, written in the layer's own type, LayerScale merged."""

from __future__ import annotations

import torch
from timm.layers.layer_scale import LayerScale as TimmLayerScale
from torch import nn

from vitptq.methods.core.model.rotated_parts import LayerScale, Weights, merge


def test_a_layer_without_a_bias_can_get_one_in_its_own_type() -> None:
    layer = nn.Linear(3, 2, bias=False)
    weight, bias = Weights(layer).read()
    assert weight.dtype == torch.float64 and bias is None
    Weights(layer).write(2 * weight, weight.sum(1))
    assert layer.weight.dtype == layer.bias.dtype == torch.float32
    torch.testing.assert_close(layer(torch.zeros(1, 3))[0], weight.sum(1).float())


def test_a_merged_layer_scale_leaves_the_function() -> None:
    branch = nn.Sequential(nn.Linear(3, 4), TimmLayerScale(4)).double()
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        branch[1].gamma.copy_(torch.tensor([0.5, -2.0, 3.0, 0.0]))
        expected = branch(x)
        merge(LayerScale(branch, "1", Weights(branch[0])))
        assert isinstance(branch[1], nn.Identity)
        torch.testing.assert_close(branch(x), expected)
