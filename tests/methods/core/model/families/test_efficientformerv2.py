"""EfficientFormerV2: attention biases that it keeps, and its bridges."""

from __future__ import annotations

import timm
import torch

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.families import family_of
from vitptq.methods.core.model.prepare import prepare

BITS = BitSpec(8, 8)


def test_model_that_ran_with_gradients_can_be_copied() -> None:
    model = timm.create_model("efficientformerv2_s0", img_size=64, pretrained=False).eval()
    model(torch.randn(1, 3, 64, 64))  # keeps attention biases that belong to a graph
    assert prepare(model, BITS).model is not model


def test_bridges_end_at_query_key_and_value() -> None:
    with torch.device("meta"):
        model = timm.create_model("efficientformerv2_s0", pretrained=False)
    found = family_of(model).bridges(model)
    expected = [
        (f"{before}.mlp.fc2.conv", *(f"{after}.token_mixer.{side}.conv" for side in "qkv"))
        for before, after in (
            ("stages.2.blocks.3", "stages.2.blocks.4"),
            ("stages.3.blocks.1", "stages.3.blocks.2"),
        )
    ]
    assert [bridge.members for bridge in found] == expected
    for bridge in found:
        assert all(member.startswith(f"{bridge.inside}.") for member in bridge.members)
        assert set(bridge.outputs) < set(bridge.members)
