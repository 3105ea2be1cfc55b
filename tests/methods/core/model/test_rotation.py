"""Rotated models: the float function stays, wide channels go, and what cannot be rotated is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tests.methods.core.model import openmmlab_models
from vitptq.bench.bits import FLOAT, BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.adalog import AdaLog
from vitptq.methods.aphq_vit import APHQViT
from vitptq.methods.core.model.families import family_of
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.model.rotation import RMSNorm, Rotation, rotated
from vitptq.methods.gptq import GPTQ
from vitptq.methods.ptq4vit import PTQ4ViT
from vitptq.methods.qdrop import QDrop
from vitptq.methods.repq_vit import RepQViT

W4A4 = BitSpec(4, 4)
SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}


class MaximumOfTokens(VisionTransformer):
    """Its head reads what a rotation would not leave alone."""

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        return x.amax(1)


@torch.no_grad()
def uneven(model: nn.Module) -> nn.Module:
    """Give every parameter that is a constant in a new model values of its own, and some norms wide channels."""
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "gamma")):
            parameter.copy_(1 + 0.3 * noise)
            parameter[:2] *= 10
        elif parameter.ndim == 1 or "embed" in name or "token" in name:
            parameter.copy_(0.5 * noise)
    return model.eval()


METHODS = [
    RepQViT(),
    PTQ4ViT(candidates=10, rounds=1),
    GPTQ(),
    AdaLog(reconstruct=False, rounds=1, steps=1, candidates=16),
    QDrop(iterations=2),
    APHQViT(iterations=2, mlp=False, rounds=1, candidates=16, draws=1),
]
VITS = {
    "class token": lambda: VisionTransformer(**SMALL, num_classes=10),
    "mean of tokens, norm behind it": lambda: VisionTransformer(**SMALL, num_classes=10, global_pool="avg"),
    "LayerScale": lambda: VisionTransformer(**SMALL, num_classes=10, init_values=0.1),
    "no biases in qkv": lambda: VisionTransformer(**SMALL, num_classes=10, qkv_bias=False),
    "registers": lambda: VisionTransformer(**SMALL, num_classes=10, reg_tokens=2),
    "normalised queries and keys": lambda: VisionTransformer(**SMALL, num_classes=10, qk_norm=True),
    "maximum of tokens": lambda: MaximumOfTokens(**SMALL, num_classes=10),
    "no classifier": lambda: VisionTransformer(**SMALL, num_classes=0),
}


@pytest.mark.parametrize("kind", VITS)
@pytest.mark.parametrize("rotation", ["heads", "full"])
def test_a_vit_computes_the_same_function(kind: str, rotation: Rotation) -> None:
    torch.manual_seed(3)
    model = uneven(VITS[kind]()).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = model(images), rotated(model, rotation, seed=0)(images)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_swin_is_rotated_head_by_head_and_the_record_says_so() -> None:
    model = uneven(two_block_models()["Swin"]).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with reporting.listening() as heard, torch.no_grad():
        turned = rotated(model, "full", seed=0)
        torch.testing.assert_close(turned(images), model(images), rtol=1e-10, atol=1e-10)
    assert "heads alone" in str(heard.figures["rotation"])
    attentions = [net.layers[0].blocks[0].attn for net in (model, turned)]
    assert not torch.allclose(attentions[0].qkv.weight, attentions[1].qkv.weight)


@pytest.mark.parametrize("name", ["mask_rcnn", "deit_upernet"])
def test_backbones_of_detectors_and_segmenters_compute_the_same_maps(name: str) -> None:
    pytest.importorskip("mmdet")
    model = uneven(getattr(openmmlab_models, name)()).double()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    turned = rotated(model, "full", seed=0)
    features = family_of(model).features
    with torch.no_grad():
        for found, expected in zip(features(turned, images), features(model, images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    weights = dict(model.named_parameters())
    assert any(not torch.equal(x, weights[n]) for n, x in turned.named_parameters())


def test_what_layers_read_loses_its_wide_channels() -> None:
    model = uneven(VITS["class token"]())
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    def spread(net: nn.Module) -> float:
        seen: list[Tensor] = []
        handle = net.blocks[1].mlp.fc1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore[union-attr, index]
        with torch.no_grad():
            net(images)
        handle.remove()
        return (seen[0].abs().amax() / seen[0].std()).item()

    assert spread(rotated(model, "full", seed=0)) < 0.6 * spread(model)


def test_norms_of_the_stream_keep_taking_folds() -> None:
    net = prepare(rotated(VITS["class token"](), "full", seed=0), W4A4)
    pairs = net.norm_readers()
    assert len(pairs) == 4 and all(isinstance(norm, RMSNorm) for norm, _ in pairs)


def test_the_seed_decides_the_matrices_and_the_model_given_stays() -> None:
    model = VITS["class token"]()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    first, again, other = (rotated(model, "full", seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["blocks.0.mlp.fc1.weight"], other["blocks.0.mlp.fc1.weight"])
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_without_rotation_the_model_itself_comes_back() -> None:
    model = VITS["class token"]()
    assert rotated(model, "none", seed=0) is model


def test_a_stream_that_is_normalised_on_its_way_is_refused_with_the_way_out() -> None:
    model = VisionTransformer(**SMALL, num_classes=10, pre_norm=True)
    with pytest.raises(Unsupported, match='normalised embeddings; "heads"'):
        rotated(model, "full", seed=0)


def test_a_family_without_such_attention_is_named() -> None:
    with pytest.raises(Unsupported, match="families with one: .*swin"):
        rotated(timm.create_model("efficientformer_l1"), "heads", seed=0)


@pytest.mark.parametrize("name", ["ViT", "Swin"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_methods_quantise_the_rotated_model(method: Any, name: str) -> None:
    model, bits = two_block_models()[name], BitSpec(8, 8)
    images = next(RandomImages().batches())
    with torch.no_grad():
        expected = model(images)
        plain, turned = (
            replace(method, rotation=rotation).quantize(model, RandomImages(), bits) for rotation in ("none", "full")
        )
        assert (turned(images) - expected).abs().mean() < 0.2 * expected.abs().mean()
    weights = [dict(net.named_parameters()) for net in (plain, turned)]
    qkv = next(n for n in weights[0] if n.endswith("attn.qkv.weight"))
    assert not torch.allclose(weights[0][qkv], weights[1][qkv], atol=1e-2)
    assert audit(turned, bits, images[:1], RandomImages().forward).violations == ()


def test_turning_back_before_a_head_is_no_product_that_the_audit_misses() -> None:
    torch.manual_seed(3)
    model, bits = VITS["maximum of tokens"]().eval(), BitSpec(8, 8)
    images = next(RandomImages().batches())
    float_audit = audit(model, FLOAT, images[:1], RandomImages().forward)
    net = RepQViT(rotation="full").quantize(model, RandomImages(), bits)
    assert audit(net, bits, images[:1], RandomImages().forward, float_audit=float_audit).violations == ()
