"""GPTAQ: its relation to GPTQ, and what it is for."""

from __future__ import annotations

import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.gptaq import GPTAQ
from vitptq.methods.gptq import GPTQ

BITS = BitSpec(3, 32)


def rounded(method: GPTQ) -> tuple[nn.Module, nn.Module]:
    model = two_block_models()["ViT"]
    return method.quantize(model, RandomImages(), BITS), model


def test_without_correction_it_is_gptq() -> None:
    one, other = (rounded(method)[0].state_dict() for method in (GPTAQ(correction=0), GPTQ()))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_errors_of_layer_outputs_are_not_larger_than_gptqs() -> None:
    images = next(RandomImages().batches())
    errors = []
    for method in (GPTAQ(), GPTQ()):
        quantised, model = rounded(method)
        outputs: list[torch.Tensor] = []
        for net in (quantised, model):
            net.get_submodule("blocks.1.mlp.fc2").register_forward_hook(lambda m, x, y, to=outputs: to.append(y))
            with torch.no_grad():
                net(images)
        errors.append(float((outputs[0] - outputs[1]).square().mean()))
    assert errors[0] < errors[1]
