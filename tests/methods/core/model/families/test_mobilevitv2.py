"""MobileViTv2: where convolutions hand over to attention."""

from __future__ import annotations

import timm
import torch

from vitptq.methods.core.model.families import family_of


def test_bridges_lead_from_a_convolution_to_the_first_attention() -> None:
    with torch.device("meta"):
        model = timm.create_model("mobilevitv2_050", pretrained=False)
    found = family_of(model).bridges(model)
    expected = [(f"stages.{i}.1.conv_1x1", f"stages.{i}.1.transformer.0.attn.qkv_proj") for i in (2, 3, 4)]
    assert [bridge.members for bridge in found] == expected
    for bridge in found:
        assert all(member.startswith(f"{bridge.inside}.") for member in bridge.members)
        assert set(bridge.outputs) < set(bridge.members)
