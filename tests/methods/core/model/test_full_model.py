"""The full form of a model: the same float function, a slot at every tensor, and each norm between its slots."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.prepare import prepare_in_full

BITS = BitSpec(4, 4)


def vit(**options: Any) -> nn.Module:
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    return VisionTransformer(**(arguments | options)).eval()


def swin(**options: Any) -> nn.Module:
    arguments = {"img_size": 32, "patch_size": 2, "embed_dim": 16, "window_size": 4, "num_classes": 10}
    return SwinTransformer(**(arguments | {"depths": (2, 2), "num_heads": (1, 2)} | options)).eval()


MODELS = {
    "vit": vit,
    "swin": swin,
    "swin with windows that do not divide": lambda: swin(img_size=40, window_size=7, strict_img_size=False),
}


def images(name: str) -> Tensor:
    side = 40 if "divide" in name else 32
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_float_function_is_unchanged(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    net, _ = prepare_in_full(model, BITS)
    torch.testing.assert_close(net.model(images(name)), model(images(name)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "swin"])
@torch.no_grad()
def test_original_model_is_left_alone(name: str) -> None:
    model = MODELS[name]()
    classes, before = [type(module) for module in model.modules()], model(images(name))
    prepare_in_full(model, BITS)
    assert [type(module) for module in model.modules()] == classes
    assert torch.equal(model(images(name)), before)


@pytest.mark.parametrize("name", ["vit", "swin"])
@torch.no_grad()
def test_each_norm_reads_what_one_slot_stores_and_another_slot_stores_its_output(name: str) -> None:
    net, full = prepare_in_full(MODELS[name](), BITS)
    stored: dict[str, Tensor] = {}
    for slot in net.operands.values():
        slot.register_forward_hook(lambda module, args, output: stored.update({module.name: output}))
    read: dict[str, tuple[Tensor, Tensor]] = {}
    for place in full.norms():
        norm = full.get_submodule(place.norm)
        norm.register_forward_hook(
            lambda module, args, output, key=place.norm: read.update({key: (args[0], output)})  # type: ignore[misc]
        )
    full(images(name))
    norms = [key for key, module in full.named_modules() if isinstance(module, nn.LayerNorm)]
    assert sorted(place.norm for place in full.norms()) == sorted(norms)
    for place in full.norms():
        source, result = read[place.norm]
        before = stored[place.before.name]
        assert _values(source) <= _values(before)
        assert source.shape[-1] == place.copies * before.shape[-1]
        assert _values(stored[place.after.name]) == _values(result)


def _values(x: Tensor) -> set[float]:
    return set(x.flatten().tolist())


def test_family_without_a_full_form_is_unsupported_and_those_with_one_are_named() -> None:
    with pytest.raises(Unsupported, match="families with one: swin, vit"):
        prepare_in_full(timm.create_model("mobilevit_xxs"), BITS)
