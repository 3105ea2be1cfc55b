"""PTQ4ViT: twin grids by hand, and the gradient that weights the search."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.twin_uniform import TwinGelu, TwinSoftmax
from vitptq.methods.core.sensitivity.fisher import normalised, output_gradients
from vitptq.methods.ptq4vit import PTQ4ViT

BITS = BitSpec(4, 4)


@pytest.mark.parametrize("point", ["quantised", "sampled"])
def test_gradient_at_an_output_equals_that_of_the_whole_graph(point: Any) -> None:
    method, images = PTQ4ViT(gradient_point=point, candidates=2), RandomImages()
    net = prepare(two_block_models()["ViT"], BITS)
    method._set_defaults(net, images)
    name = "blocks.0.mlp.fc2"
    torch.manual_seed(0)
    (gradient,) = output_gradients(net, images, [net.model.get_submodule(name)], point)

    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    torch.manual_seed(0)
    parts = []
    for batch in next(images.batches()).split(4):
        net.switch(False)
        expected = net.model(batch).softmax(-1)
        net.switch(point == "quantised")
        handle = net.model.get_submodule(name).register_forward_hook(keep)
        actual = net.model(batch.clone().requires_grad_())
        handle.remove()
        if point == "sampled":
            loss = nn.functional.cross_entropy(actual, torch.multinomial(expected, 1)[:, 0])
        else:
            loss = (expected * (expected.log() - actual.log_softmax(-1))).sum(1).mean()
        loss.backward()
        parts.append(kept.pop().grad)
    torch.testing.assert_close(gradient, torch.cat(parts))  # type: ignore[arg-type]
    assert gradient.abs().max() > 1e-6


def test_gradients_of_outputs_that_depend_on_each_other_are_those_of_each_alone() -> None:
    images = RandomImages()
    net = prepare(two_block_models()["ViT"], BITS)
    PTQ4ViT(candidates=2)._set_defaults(net, images)
    some = [
        net.model.get_submodule(name) for name in ("blocks.0.attn.qkv", "blocks.0.mlp.fc2", "blocks.1.attn.av", "head")
    ]
    together = output_gradients(net, images, some, "quantised")
    for module, gradient in zip(some, together, strict=True):
        (alone,) = output_gradients(net, images, [module], "quantised")
        torch.testing.assert_close(gradient, alone)


def test_gradient_that_says_nothing_is_left_out() -> None:
    assert normalised([torch.zeros(3)]) is None
    assert normalised([torch.zeros(2), torch.tensor([1.0, torch.inf])]) is None
    scaled = normalised([torch.tensor([1e-30]), torch.tensor([-4e-30])])
    assert scaled is not None and torch.cat(scaled).tolist() == pytest.approx([0.25, -1])


def test_softmax_and_gelu_get_twins_and_can_be_switched_off() -> None:
    model = two_block_models()["ViT"]
    for on in (True, False):
        method = PTQ4ViT(rounds=1, candidates=3, twin_softmax=on, twin_gelu=on)
        quantised = method.quantize(model, RandomImages(), BITS)
        softmax: Any = quantised.get_submodule("blocks.0.attn.av.left_operand")
        gelu: Any = quantised.get_submodule("blocks.0.mlp.fc2.input_operand")
        assert isinstance(softmax.quantizer, TwinSoftmax) is on
        assert isinstance(gelu.quantizer, TwinGelu) is on


@pytest.mark.parametrize("options", [{"twin": "sum"}, {"tie_pow2": True}, {"gradient_point": "float"}])
def test_variants_pass_the_audit(options: dict[str, Any]) -> None:
    model = two_block_models()["ViT"]
    quantised = PTQ4ViT(rounds=1, candidates=10, **options).quantize(model, RandomImages(), BITS)
    images = next(RandomImages().batches())
    assert audit(quantised, BITS, images[:1], RandomImages().forward).violations == ()
    if options.get("tie_pow2"):
        gelu: Any = quantised.get_submodule("blocks.0.mlp.fc2.input_operand.quantizer")
        ratio = (gelu.scale / gelu.negative_scale).log2().item()
        assert ratio == pytest.approx(round(ratio), abs=1e-5)
