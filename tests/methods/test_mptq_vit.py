"""MPTQ-ViT: the grids behind GELU, and the fully quantised mode."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.model.full_model import Point
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.mptq_vit import MPTQViT

W4A4 = BitSpec(4, 4)
FAST_FULL = MPTQViT(scope="full", candidates=4, rounds=1, shifts=3)


def test_the_grid_behind_gelu_is_the_one_asked_for() -> None:
    images = RandomImages()
    found = {}
    for gelu in ("sign", "one"):
        method = MPTQViT(candidates=4, rounds=1, shifts=3, gelu=gelu)  # type: ignore[arg-type]
        net = method.quantize(two_block_models()["ViT"], images, W4A4)
        found[gelu] = type(net.get_submodule("blocks.0.mlp.fc2.input_operand.quantizer")).__name__
    assert found == {"sign": "TwoScale", "one": "Uniform"}


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_fully_quantised_what_lies_between_layers_has_grids_behind_the_fold(name: str) -> None:
    images = RandomImages()
    net = FAST_FULL.quantize(two_block_models()[name], images, W4A4)
    points = [module for module in net.modules() if isinstance(module, Point)]
    assert points and all(point.on and isinstance(point.quantizer, Uniform) for point in points)
    (batch,) = images.batches()
    assert audit(net, W4A4, batch[:1], images.forward).clean


def test_fully_quantised_the_error_falls_with_the_width() -> None:
    model, images = two_block_models()["ViT"], RandomImages()
    (batch,) = images.batches()
    with torch.no_grad():
        nets = [FAST_FULL.quantize(model, images, BitSpec(width, width)) for width in (8, 4)]
        fine, coarse = ((net(batch) - model(batch)).square().mean() for net in nets)
    assert fine < coarse / 4


def test_fully_quantised_in_mixed_precision_keeps_the_averages_of_the_operands() -> None:
    bits, images = BitSpec(4, 4, mixed=True), RandomImages()
    net = replace(FAST_FULL, reach=1).quantize(two_block_models()["ViT"], images, bits)
    (batch,) = images.batches()
    assert audit(net, bits, batch[:1], images.forward).clean


def test_the_note_says_what_else_is_quantised() -> None:
    assert FAST_FULL.notes() and not MPTQViT().notes()
