"""RepQ-ViT: the invariances that the paper's algebra promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.percentile_error import least_error_affine, least_error_log_sqrt2
from vitptq.methods.repq_vit import RepQViT


@pytest.fixture(params=["ViT", "Swin"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    net = two_block_models()[request.param]
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.LayerNorm):  # random weights have tame norms: give them something to fold
                module.weight.mul_(torch.rand_like(module.weight) * 3 + 0.2)
                module.bias.add_(torch.randn_like(module.bias))
    return net


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


def test_chosen_percentile_has_the_least_error_in_every_row() -> None:
    rows = torch.randn(6, 4000).sinh()
    percentiles = (0.999, 0.9999, 0.99999)
    best = least_error_affine(rows, 4, percentiles)
    error = (Uniform(4, *best, axis=0)(rows) - rows).square().mean(1)
    for fraction in percentiles:
        alone = least_error_affine(rows, 4, (fraction,))
        assert (error <= (Uniform(4, *alone, axis=0)(rows) - rows).square().mean(1) + 1e-12).all()


@pytest.mark.parametrize("constant", [0.5, -0.5, 1e-3, 0.0])
def test_constant_channel_does_not_spoil_the_others(constant: float) -> None:
    rows = torch.randn(8, 1000)
    rows[3] = constant
    scale, zero = least_error_affine(rows, 4, (0.999, 0.99999))
    assert ((zero >= 0) & (zero <= 15)).all()
    assert (Uniform(4, scale, zero, axis=0)(rows)[3] - constant).abs().max() < 1e-6


def test_softmax_ceiling_is_one_of_the_percentiles() -> None:
    x = torch.softmax(torch.randn(2, 4, 50, 50) * 4, dim=-1)
    quantizer = least_error_log_sqrt2(x, 4, (0.999, 0.9999), "last")
    choices = x.flatten().quantile(torch.tensor([0.999, 0.9999]))
    assert min((quantizer.ceiling - choice).abs().item() for choice in choices) < 1e-6


def test_inputs_behind_a_norm_end_with_one_scale(model: nn.Module) -> None:
    quantised = RepQViT().quantize(model, RandomImages(), BitSpec(4, 4))
    net = prepare(model, BitSpec(4, 4))
    behind = [reader.input_operand.name for _, readers in net.norm_readers() for reader in readers]
    for name in behind:
        quantizer = quantised.get_submodule(name).quantizer
        assert isinstance(quantizer, Uniform)
        assert quantizer.granularity == "tensor"
        assert quantizer.zero_point.item() == round(quantizer.zero_point.item())


def test_wide_channels_hurt_repq_less_than_minmax() -> None:
    from vitptq.methods.minmax import MinMax

    model = two_block_models()["ViT"]
    with torch.no_grad():
        blocks: Any = model.blocks
        for block in blocks:
            for norm, reader in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
                norm.weight[:2] *= 32
                reader.weight[:, :2] /= 32
        expected = model(images())
        errors = [
            (method.quantize(model, RandomImages(), BitSpec(8, 4))(images()) - expected).norm().item()
            for method in (MinMax(), RepQViT())
        ]
    assert errors[1] < errors[0]
