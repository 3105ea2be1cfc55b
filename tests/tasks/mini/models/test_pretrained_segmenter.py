"""The segmenter on the pretrained backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tasks.mini.models.test_dinov2 import needs_backbone
from vitptq.tasks.mini.models import dinov2
from vitptq.tasks.mini.models.pretrained_segmenter import PRETRAINED_SEGMENTERS
from vitptq.tasks.mini.segmentation import MiniAde20k

pytest.importorskip("mmseg")
ENTRY = PRETRAINED_SEGMENTERS["dinov2_vits14_linear"]


@needs_backbone
def test_its_features_are_the_patch_tokens_of_the_classifiers_backbone() -> None:
    model: Any = ENTRY.without_head()
    other = dinov2.vits14(224, 10).eval()
    other.load_state_dict(dinov2.backbone(224), strict=False)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (found,) = model.backbone(images)
        expected = other.forward_features(images)[:, 1:]
        assert (found.flatten(2).transpose(1, 2) - expected).abs().max() < 1e-4
        assert model.decode_head((found,)).shape == (1, 11, 16, 16)


def test_scenes_are_enlarged_for_it_alone() -> None:
    task = MiniAde20k()
    assert task.input("mini_upernet_swin").shape == (3, 96, 96)
    assert not any(step["type"] == "Resize" for step in task.dataset_config("mini_upernet_swin")["pipeline"])
    assert task.input(ENTRY.name).shape == (3, 224, 224)
    assert {"type": "Resize", "scale": (224, 224), "keep_ratio": False} in task.dataset_config(ENTRY.name)["pipeline"]


@needs_backbone
def test_its_head_is_the_shipped_one() -> None:
    model: Any = ENTRY.load()
    shipped = ENTRY.state()
    assert torch.equal(model.decode_head.conv_seg.weight, shipped["conv_seg.weight"].float())
    assert ENTRY.scores["miou"] > 20
