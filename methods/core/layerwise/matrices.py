"""Linear layers and convolutions as products of matrices: rows of inputs, and the weight that they meet."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.operands import Conv2d, ConvTranspose2d, Layer


def weight_matrix(layer: Layer, weight: Tensor) -> Tensor:
    """Return a weight, shaped as the layer's, as (groups, outputs, inputs)."""
    if isinstance(layer, ConvTranspose2d):  # each place of the kernel is an output of its own
        return weight.permute(0, 2, 3, 1).reshape(1, -1, weight.shape[1])
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def weight_of(layer: Layer, matrix: Tensor) -> Tensor:
    """Return a matrix as `weight_matrix` gives it in the shape of the layer's weight."""
    if isinstance(layer, ConvTranspose2d):
        out, inputs, high, wide = layer.weight.shape
        return matrix.reshape(out, high, wide, inputs).permute(0, 3, 1, 2).contiguous()
    return matrix.reshape(layer.weight.shape)


def rows_per_channel(layer: Layer) -> int:
    """Return how many rows of the matrix belong to one output channel, and so share one grid."""
    return layer.weight.shape[2] * layer.weight.shape[3] if isinstance(layer, ConvTranspose2d) else 1


def input_rows(layer: Layer, x: Tensor) -> Iterator[Tensor]:
    """Yield what the weight's matrix is multiplied with, (groups, rows, inputs), image by image for convolutions."""
    if isinstance(layer, Conv2d):
        yield from (_patches(layer, image) for image in x.split(1))
    elif isinstance(layer, ConvTranspose2d):
        _refuse_overlap(layer)
        yield x.movedim(1, -1).reshape(1, -1, x.shape[1])
    else:
        yield x.reshape(1, -1, x.shape[-1])


def _patches(layer: Conv2d, image: Tensor) -> Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = functional.pad(image, layer._reversed_padding_repeated_twice, mode=mode)
    high, wide = layer.kernel_size
    columns = functional.unfold(padded, (high, wide), dilation=layer.dilation, stride=layer.stride)  # (1, C kH kW, L)
    inputs = layer.in_channels // layer.groups * high * wide
    return columns.reshape(layer.groups, inputs, -1).transpose(1, 2)


def _refuse_overlap(layer: ConvTranspose2d) -> None:
    plain = layer.stride == layer.kernel_size and not any((*layer.padding, *layer.output_padding))
    if not plain or torch.tensor(layer.dilation).ne(1).any():
        raise Unsupported(
            f"a transposed convolution with kernel {layer.kernel_size} and stride {layer.stride}: layer-wise methods "
            "know those whose outputs do not overlap (stride as large as the kernel, no padding)"
        )
