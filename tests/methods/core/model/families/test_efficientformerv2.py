"""EfficientFormerV2: attention biases that it keeps, and its bridges."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.families import family_of
from vitptq.methods.core.model.prepare import prepare

BITS = BitSpec(8, 8)
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
