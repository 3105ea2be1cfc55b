"""Units that are no module of the model: the same function, the same names in both models, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from tests.methods.core.model import openmmlab_models
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.reconstruct import Settings, composite_units, reconstruct
from vitptq.methods.core.reconstruct.plan import plan

W4A4 = BitSpec(4, 4)


def setting(name: str) -> tuple[PreparedModel, PreparedModel, Calibration]:
    """Return a model, its twin and images: one of this process's own, or one of OpenMMLab's."""
    if name in ("ViT", "Swin"):
        model, calibration = two_block_models()[name], RandomImages()
    else:
        pytest.importorskip("mmseg")
        pytest.importorskip("mmdet")
        model, calibration = getattr(openmmlab_models, name)(), openmmlab_models.Images((32, 32))
    return prepare(model, W4A4), prepare(model, W4A4), calibration


def predictions(net: PreparedModel, calibration: Calibration) -> tuple[Tensor, ...]:
    (batch,) = calibration.batches()
    with torch.no_grad():
        found = calibration.forward(net.model, batch)
    return found if isinstance(found, tuple) else (found,)


def divided(grain: str, net: PreparedModel, twin: PreparedModel, calibration: Calibration) -> Any:
    if grain == "groups":
        return composite_units.joined([net, twin], composite_units.chains(twin, calibration, 3))
    divide: Callable[..., Any] = getattr(composite_units, grain)
    return divide([net, twin])


@pytest.mark.parametrize("grain", ["halves", "parts", "groups"])
@pytest.mark.parametrize("name", ["ViT", "Swin", "mask_rcnn", "deit_upernet"])
def test_a_divided_model_computes_what_it_did_and_is_left_as_it_was(name: str, grain: str) -> None:
    net, twin, calibration = setting(name)
    expected, modules = predictions(net, calibration), [name for name, _ in net.model.named_modules()]
    with divided(grain, net, twin, calibration) as names:
        for found, wanted in zip(predictions(net, calibration), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        assert [unit.name for unit in plan(net, calibration, names)] == names
    assert [name for name, _ in net.model.named_modules()] == modules
    assert not any("forward" in vars(module) for module in net.model.modules())


@pytest.mark.parametrize("grain", ["halves", "parts", "groups"])
@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_units_hold_every_slot_of_the_blocks_once(name: str, grain: str) -> None:
    net, twin, calibration = setting(name)
    whole = {id(part) for _, block in net.blocks() for part in block.modules() if hasattr(part, "watcher")}
    with divided(grain, net, twin, calibration) as names:
        units = [net.model.get_submodule(unit) for unit in names]
        found = [id(part) for unit in units for part in unit.modules() if hasattr(part, "watcher")]
    assert len(found) == len(set(found)) and set(found) == whole


def test_halves_in_a_row_are_the_block() -> None:
    net, twin, _ = setting("ViT")
    x = torch.randn(2, 17, 32)
    with composite_units.halves([net, twin]) as names:
        out = x
        for name in names:
            out = net.model.get_submodule(name)(out)
        torch.testing.assert_close(out, net.model.get_submodule("blocks")(x), rtol=0, atol=0)


def test_chains_end_with_the_stage_and_at_their_length() -> None:
    deep = VisionTransformer(img_size=32, patch_size=16, embed_dim=16, depth=5, num_heads=2, num_classes=3).eval()
    runs = composite_units.chains(prepare(deep, W4A4), RandomImages(), 3)
    assert runs == [["blocks.0", "blocks.1", "blocks.2"], ["blocks.3", "blocks.4"]]
    net, _, calibration = setting("Swin")
    assert all(len(run) == 1 for run in composite_units.chains(net, calibration, 3))


def test_what_a_backbone_hands_on_from_inside_a_chain_stays_what_it_was() -> None:
    net, twin, calibration = setting("deit_upernet")
    expected = predictions(net, calibration)
    with divided("groups", net, twin, calibration) as names:
        assert any("to" in name for name in names)
        assert all(torch.equal(a, b) for a, b in zip(predictions(net, calibration), expected, strict=True))


@pytest.mark.parametrize("grain", ["halves", "parts", "groups"])
def test_units_of_every_kind_can_be_trained(grain: str) -> None:
    net, twin, calibration = setting("Swin" if grain == "parts" else "ViT")
    steps = Settings(iterations=2, batch=4, weights="ste", weight_rate=1e-3, scales=False, input="quantised")
    with divided(grain, net, twin, calibration) as names:
        results = reconstruct(net, twin, calibration, steps, units=names)
    assert [result.name for result in results] == names
