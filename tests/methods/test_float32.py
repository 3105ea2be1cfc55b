"""The float cell: the model as it is."""

from __future__ import annotations

import torch

from vitptq.bench.bits import FLOAT
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.float32 import Float32


def test_the_outputs_are_the_models_own() -> None:
    model, images = two_block_models()["ViT"], next(RandomImages().batches())
    with torch.no_grad():
        assert torch.equal(Float32().quantize(model, RandomImages(), FLOAT)(images), model(images))
