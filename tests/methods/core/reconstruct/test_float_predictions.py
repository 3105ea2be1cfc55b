"""Predictions of the float model, looked up by image; and what the head reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.methods.core.model import openmmlab_models
from tests.methods.core.reconstruct.sizes_model import Sizes, stages
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.reconstruct.float_predictions import features_before_head, float_predictions

BITS = BitSpec(4, 4)


def test_predictions_are_looked_up_by_the_numbers_of_the_images() -> None:
    _, twin = stages()
    calibration = Sizes()
    found = float_predictions(twin, calibration, calibration.forward, memory=1000)(torch.tensor([4, 3]))
    with torch.no_grad():
        expected = [calibration.forward(twin.model, batch) for batch in calibration.batches()][1]
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y.flip(0))


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_head_of_a_classifier_reads_the_features(name: str) -> None:
    net = prepare(two_block_models()[name], BITS)
    images = next(RandomImages().batches())
    with torch.no_grad():
        features = features_before_head(net)(net.model, images)
        assert isinstance(features, torch.Tensor) and features.ndim == 2
        head: nn.Module = net.model.get_classifier()  # type: ignore[operator]
        torch.testing.assert_close(head(features), net.model(images))


def test_the_heads_of_a_detector_read_the_maps_of_its_neck() -> None:
    pytest.importorskip("mmdet")
    net = prepare(openmmlab_models.mask_rcnn(), BITS)
    with torch.no_grad():
        maps = features_before_head(net)(net.model, torch.randn(1, 3, 32, 32))
    assert isinstance(maps, tuple) and all(x.ndim == 4 for x in maps)
