"""GPTAQ on RepQ-ViT's activations."""

from __future__ import annotations

import torch

from tests.methods.models_to_fold import model_to_fold
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages
from vitptq.methods.gptaq_repq import GPTAQRepQ
from vitptq.methods.repq_vit import RepQViT

BITS = BitSpec(3, 8)


def test_activations_are_those_of_repq_vit_and_the_output_is_nearer_to_float() -> None:
    model = model_to_fold("ViT")
    images = next(RandomImages().batches())
    with torch.no_grad():
        ours, plain = (method.quantize(model, RandomImages(), BITS) for method in (GPTAQRepQ(), RepQViT()))
        errors = [(net(images) - model(images)).square().mean() for net in (ours, plain)]
    scale = "blocks.1.mlp.fc1.input_operand.quantizer.scale"
    assert torch.equal(ours.state_dict()[scale], plain.state_dict()[scale])
    assert errors[0] < 0.7 * errors[1]
