"""Layers as products of matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.layerwise.matrices import input_rows, rows_per_channel, weight_matrix, weight_of
from vitptq.methods.core.model.operands import Conv2d, ConvTranspose2d, Layer, Linear

BITS = BitSpec(4, 4)
LAYERS: dict[str, Layer] = {
    "linear": Linear(nn.Linear(6, 4, bias=False), BITS),
    "convolution": Conv2d(nn.Conv2d(6, 4, 3, stride=2, padding=1, bias=False), BITS),
    "groups": Conv2d(nn.Conv2d(6, 4, (3, 1), groups=2, dilation=(2, 1), bias=False), BITS),
    "same padding": Conv2d(nn.Conv2d(6, 4, 3, padding="same", bias=False), BITS),
    "transposed": ConvTranspose2d(nn.ConvTranspose2d(6, 4, 2, stride=2, bias=False), BITS),
}


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_product_with_the_rows_is_the_layer(name: str) -> None:
    layer = LAYERS[name]
    x = torch.randn(2, 5, 6) if name == "linear" else torch.randn(2, 6, 8, 7)
    rows = torch.cat(list(input_rows(layer, x)), dim=1)
    products = rows @ weight_matrix(layer, layer.weight).transpose(1, 2)  # (groups, rows, outputs)
    expected = layer(x)
    torch.testing.assert_close(products.square().sum(), expected.square().sum())
    torch.testing.assert_close(products.abs().amax(), expected.abs().amax())
    assert products.numel() == expected.numel()


@pytest.mark.parametrize("name", LAYERS)
def test_matrix_goes_back_into_the_layers_shape(name: str) -> None:
    layer = LAYERS[name]
    assert torch.equal(weight_of(layer, weight_matrix(layer, layer.weight)), layer.weight)


def test_rows_of_a_channel_are_neighbours() -> None:
    layer = LAYERS["transposed"]
    marked = torch.arange(4.0)[:, None, None, None].expand(layer.weight.shape)
    matrix = weight_matrix(layer, marked)
    assert matrix[0, :, 0].tolist() == [float(c) for c in range(4) for _ in range(rows_per_channel(layer))]


def test_overlapping_transposed_convolution_is_refused() -> None:
    layer = ConvTranspose2d(nn.ConvTranspose2d(6, 4, 3, stride=2), BITS)
    with pytest.raises(Unsupported, match="do not overlap"):
        next(input_rows(layer, torch.randn(1, 6, 4, 4)))
