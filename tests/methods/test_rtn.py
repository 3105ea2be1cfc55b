"""RTN: nearest values, no image for the weights."""

from __future__ import annotations

import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.minmax import MinMax
from vitptq.methods.rtn import RoundToNearest


def test_weights_are_those_of_minmax() -> None:
    model = two_block_models()["ViT"]
    images = torch.randn(2, 3, 32, 32)
    bits = BitSpec(3, 32)
    with torch.no_grad():
        found = [method.quantize(model, RandomImages(), bits)(images) for method in (RoundToNearest(), MinMax())]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
