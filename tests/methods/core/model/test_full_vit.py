"""ViT in full form: its slots, and what the published form does not have."""

from __future__ import annotations

from typing import Any

import pytest
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.full_model import Point
from vitptq.methods.core.model.full_vit import FullVisionTransformer
from vitptq.methods.core.model.prepare import prepare_in_full

BITS = BitSpec(4, 4)


def vit(**options: Any) -> nn.Module:
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    return VisionTransformer(**(arguments | options)).eval()


def test_vit_has_six_slots_per_block_and_five_more_besides_its_operands() -> None:
    net, full = prepare_in_full(vit(), BITS)
    points = [slot for slot in net.operands.values() if isinstance(slot, Point)]
    assert isinstance(full, FullVisionTransformer)
    assert len(points) == 6 * 2 + 5
    assert len(full.stream()) == 2 * 2 + 1
    assert {slot.bits for slot in points} == {4, 8}  # the scores have 8


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: vit(init_values=0.1), "a ViT with layer scale"),
        (lambda: vit(global_pool="avg", class_token=False), "no class token and pooled tokens"),
        (lambda: vit(reg_tokens=2), "register tokens"),
        (lambda: vit(qk_norm=True), "normalised attention"),
        (lambda: vit(num_classes=0), "no classifier"),
    ],
)
def test_what_the_published_form_does_not_have_is_unsupported_in_one_sentence(model: Any, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason) as refused:
        prepare_in_full(model(), BITS)
    assert "\n" not in str(refused.value)
