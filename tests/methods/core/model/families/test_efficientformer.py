"""EfficientFormer: where its bridge is."""

from __future__ import annotations

import pytest
import timm
import torch

from vitptq.methods.core.model.families import family_of


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("efficientformer_l1", [("stages.3.blocks.2.mlp.fc2", "stages.3.blocks.4.token_mixer.qkv")]),
        ("efficientformer_l3", [("stages.3.blocks.1.mlp.fc2", "stages.3.blocks.3.token_mixer.qkv")]),
        ("efficientformer_l7", [("stages.3.downsample.conv", "stages.3.blocks.1.token_mixer.qkv")]),
    ],
)
def test_the_bridge_is_where_the_last_stage_turns_to_attention(name: str, members: list[tuple[str, ...]]) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    assert [bridge.members for bridge in family_of(model).bridges(model)] == members
