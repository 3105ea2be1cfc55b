"""MinMax: ranges are the extremes of what was seen."""

from __future__ import annotations

import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.minmax import MinMax


def quantizer(model: nn.Module, name: str) -> Uniform:
    found = model.get_submodule(name).quantizer
    assert isinstance(found, Uniform)
    return found


def test_a_weight_row_has_its_extremes_as_ends() -> None:
    model = two_block_models()["ViT"]
    weight = model.get_submodule("head").weight.detach()
    grid = quantizer(MinMax().quantize(model, RandomImages(), BitSpec(4, 4)), "head.weight_operand").grid()
    spread = weight.amax(1).clamp_min(0) - weight.amin(1).clamp_max(0)
    torch.testing.assert_close(grid[:, -1] - grid[:, 0], spread)


def test_symmetric_weights_have_no_zero_point() -> None:
    model = two_block_models()["ViT"]
    for symmetric in (False, True):
        out = MinMax(w_symmetric=symmetric).quantize(model, RandomImages(), BitSpec(4, 4))
        assert bool(quantizer(out, "head.weight_operand").zero_point.any()) != symmetric
