"""GPTQ on a model: grids, and the float output."""

from __future__ import annotations

import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import Layer
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.gptq import GPTQ


def test_every_weight_is_on_its_grid_as_it_is_stored() -> None:
    quantised = GPTQ().quantize(two_block_models()["Swin"], RandomImages(), BitSpec(2, 32))
    layers = [module for module in quantised.modules() if isinstance(module, Layer)]
    for layer in layers:
        quantizer = layer.weight_operand.quantizer
        assert isinstance(quantizer, Uniform)
        assert torch.equal(quantizer(layer.weight), layer.weight)
    assert len(layers) > 8


def test_damping_changes_the_result() -> None:
    model = two_block_models()["ViT"]
    found = [
        GPTQ(damping=damping).quantize(model, RandomImages(), BitSpec(3, 32)).state_dict() for damping in (0.01, 10.0)
    ]
    name = "blocks.1.attn.qkv.weight"
    assert not torch.equal(found[0][name], found[1][name])
