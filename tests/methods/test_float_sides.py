"""Weights or activations left in float: every adapter quantises the rest, or says that it has no such form."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models

METHODS = [name for name, cls in registry.methods().items() if cls.category == "ptq"]


@pytest.mark.parametrize("bits", ["W4A32", "W32A4"])
@pytest.mark.parametrize("name", METHODS)
def test_float_weights_or_activations_are_quantised_around_or_refused(name: str, bits: str) -> None:
    cls, refused = registry.method(name), ""
    try:
        model = cls.configured(cls.trial).quantize(two_block_models()["ViT"], RandomImages(), BitSpec.parse(bits))
    except Unsupported as error:
        refused = str(error)
    if refused:
        assert bits in refused
    else:
        (images,) = RandomImages().batches()
        assert torch.isfinite(model(images)).all()
