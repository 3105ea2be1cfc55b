"""EfficientFormer: where its bridge is."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from vitptq.methods.core.model.families import family_of

SIDES = {"mobilevit_xxs": 256, "mobilevitv2_050": 256, "efficientformer_l1": 224, "efficientformerv2_s0": 224}


@pytest.fixture(scope="module", params=SIDES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> nn.Module:
    return randomised(timm.create_model(name, pretrained=False))


def randomised(model: nn.Module) -> nn.Module:
    """Give normalisations and layer scales values as after training: fresh ones would hide a wrong fold."""
    torch.manual_seed(5)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.2)
            if hasattr(module, "gamma"):
                module.gamma.uniform_(0.2, 0.5)
            if hasattr(module, "attention_biases"):
                module.attention_biases.normal_()
    return model.eval()


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
