"""Operands in slots: the float function is unchanged, every product has both slots."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.families import families
from vitptq.methods.core.model.prepare import prepare

BITS = BitSpec(4, 4)


def vit(**options: object) -> nn.Module:
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    return VisionTransformer(**(arguments | options))  # type: ignore[arg-type]


def swin(**options: object) -> nn.Module:
    arguments = {"img_size": 32, "patch_size": 2, "embed_dim": 16, "window_size": 4}
    arguments |= {"depths": (2, 2), "num_heads": (1, 2)}
    return SwinTransformer(**(arguments | {"num_classes": 10} | options))  # type: ignore[arg-type]


MODELS = {
    "vit": vit,
    "vit with class token pooled and qk norm": lambda: vit(qk_norm=True, global_pool="avg", class_token=False),
    "vit with registers": lambda: vit(reg_tokens=4),
    "deit": lambda: timm.create_model("deit_tiny_patch16_224", pretrained=False),
    "swin": swin,
    "swin with windows that do not divide": lambda: swin(img_size=40, window_size=7, strict_img_size=False),
    "swin tiny": lambda: timm.create_model("swin_tiny_patch4_window7_224", pretrained=False),
}


@pytest.mark.parametrize("name", MODELS)
def test_float_function_is_unchanged(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    side = 224 if name in ("deit", "swin tiny") else 40 if "divide" in name else 32
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected, actual = model(images), prepare(model, BITS).model(images)
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("model", [vit(), swin()], ids=["vit", "swin"])
def test_original_model_is_left_alone(model: nn.Module) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [type(module) for module in model.modules()]
    prepare(model, BITS)
    assert [type(module) for module in model.modules()] == kinds
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("model", [vit(), swin()], ids=["vit", "swin"])
def test_every_product_has_its_operands(model: nn.Module) -> None:
    net = prepare(model, BITS)
    layers = sum(type(m) in (nn.Linear, nn.Conv2d) for m in model.modules())
    attentions = sum(hasattr(m, "qkv") for m in model.modules())
    assert len(net.weights) == layers
    assert len(net.operands) == 2 * layers + 4 * attentions
    roles = [operand.role for operand in net.operands.values()]
    assert roles.count("stem_input") == 1
    assert roles.count("gelu") == attentions == roles.count("softmax")


def test_stem_input_has_eight_bits_and_the_head_the_nominal_width() -> None:
    net = prepare(vit(), BITS)
    assert net.operands["patch_embed.proj.input_operand"].bits == 8
    assert net.operands["head.input_operand"].bits == 4
    assert net.operands["head.weight_operand"].bits == 4


def test_unknown_model_is_unsupported_and_the_families_are_named() -> None:
    with pytest.raises(Unsupported, match="no operand map for Sequential; families with one: .*swin.*vit"):
        prepare(nn.Sequential(nn.Linear(2, 2)), BITS)


def test_every_family_is_tested_here() -> None:
    hybrids = {"mobilevit", "mobilevitv2", "efficientformer", "efficientformerv2"}  # in test_hybrid_families.py
    openmmlab = {"openmmlab swin", "openmmlab vit"}  # in test_openmmlab_families.py
    assert {family.name for family in families()} == {"vit", "swin"} | hybrids | openmmlab
