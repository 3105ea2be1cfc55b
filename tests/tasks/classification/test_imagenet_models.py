"""The published classifiers."""

from __future__ import annotations

import pytest

from vitptq.tasks.classification.imagenet import ImageNet
from vitptq.tasks.classification.imagenet_models import MODELS


@pytest.mark.parametrize("tag", MODELS)
def test_published_models_have_timms_data_config(tag: str) -> None:
    imagenet = ImageNet()
    card = imagenet.models()[tag]
    config = imagenet.data_config(tag)
    assert card.checkpoint == tag
    crop = {"mobilevitv2": 0.888, "efficientformer": 0.95, "efficientformerv2": 0.95}.get(card.family, 0.9)
    crop = 1.0 if "_384." in tag else crop
    assert (config["crop_pct"], config["interpolation"], config["num_classes"]) == (crop, "bicubic", 1000)
    assert config["hf_hub_id"] == f"timm/{tag}"
    assert f"crop {crop}, bicubic" in card.note
    assert (config["input_size"][1] == 256) == ("256 pixels" in card.note)
    assert (config["input_size"][1] == 384) == ("384 pixels" in card.note)
    assert (config["mean"] == (0.0, 0.0, 0.0) and config["std"] == (1.0, 1.0, 1.0)) == ("not normalised" in card.note)
