"""Folding into a LayerNorm: the float function and the codes stay as they were."""

from __future__ import annotations

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from tests.methods.models_to_fold import model_to_fold
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import two_block_models
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.ranges.percentile_error import least_error_affine


@pytest.fixture(params=["ViT", "Swin"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return model_to_fold(request.param)


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(8, 3, 32, 32, dtype=dtype, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_folding_leaves_the_float_function(model: nn.Module, dtype: torch.dtype, tolerance: float) -> None:
    model = model.to(dtype)
    expected = model(images(dtype)).detach()
    net = prepare(model, BitSpec(4, 4))
    with torch.no_grad():
        for norm, readers in net.norm_readers():
            width = norm.weight.shape
            fold_into_layer_norm(
                norm, readers, scale=torch.rand(width, dtype=dtype) * 1.5 + 0.5, shift=torch.randn(width, dtype=dtype)
            )
        actual = net.model(images(dtype))
    assert (actual - expected).abs().max() < tolerance * expected.abs().max()


def test_folding_creates_the_bias_that_a_reduction_lacks() -> None:
    net = prepare(two_block_models()["Swin"], BitSpec(4, 4))
    norm, readers = next(pair for pair in net.norm_readers() if pair[1][0].bias is None)
    fold_into_layer_norm(norm, readers, scale=torch.ones(norm.weight.shape), shift=torch.ones(norm.weight.shape))
    assert readers[0].bias is not None


def test_codes_of_the_folded_tensor_equal_the_per_channel_codes() -> None:
    x = torch.randn(500, 16) * torch.rand(16) * 5 + torch.randn(16)
    scale, zero = least_error_affine(x.T.contiguous(), 4, (0.999, 0.9999, 0.99999))
    mean_scale, mean_zero = scale.mean(), zero.mean().round()
    folded = (x.double() + (scale * (zero - mean_zero)).double()) / (scale / mean_scale).double()
    per_channel = ((x / scale).round() + zero).clamp(0, 15)
    per_tensor = ((folded / mean_scale).round() + mean_zero).clamp(0, 15)
    # Rounding ties may fall either way in float arithmetic; everything else is the same code.
    assert (per_channel == per_tensor).double().mean() > 0.9999


BITS = BitSpec(4, 4)


def swin(**options: object) -> nn.Module:
    arguments = {"img_size": 32, "patch_size": 2, "embed_dim": 16, "window_size": 4}
    arguments |= {"depths": (2, 2), "num_heads": (1, 2)}
    return SwinTransformer(**(arguments | {"num_classes": 10} | options))  # type: ignore[arg-type]


def test_float_function_survives_folding_where_windows_are_padded() -> None:
    torch.manual_seed(0)
    model = swin(img_size=40, window_size=7).eval()  # maps of 20 and 10 in windows of 7
    net = prepare(model, BITS)
    with torch.no_grad():
        for norm, readers in net.norm_readers():
            width = norm.weight.shape
            fold_into_layer_norm(norm, readers, scale=torch.rand(width) + 0.5, shift=torch.randn(width))
        images = torch.randn(2, 3, 40, 40)
        expected, actual = model(images), net.model(images)
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()
