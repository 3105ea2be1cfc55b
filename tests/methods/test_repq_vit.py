"""RepQ-ViT: the invariances that the paper's algebra promises."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from tests.methods.models_to_fold import model_to_fold
from vitptq.bench.bits import BitSpec, Role
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operand_kinds import Kind
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.repq_vit import RepQViT


@pytest.fixture(params=["ViT", "Swin"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return model_to_fold(request.param)


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(8, 3, 32, 32, dtype=dtype, generator=torch.Generator().manual_seed(2))


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


def test_a_kind_with_min_max_ranges_is_exchanged_alone() -> None:
    def scale(min_max: tuple[Kind, ...], name: str) -> Tensor:
        method = RepQViT(percentiles=(0.9,), min_max=min_max)
        quantised = method.quantize(two_block_models()["ViT"], RandomImages(), BitSpec(6, 6))
        found: Any = quantised.get_submodule(name).quantizer
        return found.scale

    exchanged, other = "blocks.0.mlp.fc2.input_operand", "blocks.0.attn.qkv.input_operand"
    assert scale(("gelu",), exchanged) > 1.5 * scale((), exchanged)
    assert torch.equal(scale(("gelu",), other), scale((), other))


def test_min_max_ranges_of_all_kinds_are_those_of_the_percentile_1() -> None:
    model, kinds = two_block_models()["ViT"], (*get_args(Role), "layer_norm")
    whole = RepQViT(percentiles=(1.0,)).quantize(model, RandomImages(), BitSpec(4, 4))
    exchanged = RepQViT(min_max=kinds).quantize(model, RandomImages(), BitSpec(4, 4))
    assert torch.equal(whole(images()), exchanged(images()))
