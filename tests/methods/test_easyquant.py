"""EasyQuant: what its search promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search.candidates import multiples
from vitptq.methods.core.search.recording import Recording, record
from vitptq.methods.easyquant import EasyQuant, widened_activations, widened_weights
from vitptq.methods.minmax import MinMax

BITS = BitSpec(4, 4)


def quantizer(model: nn.Module, name: str) -> Uniform:
    found: Any = model.get_submodule(name).quantizer
    return found


def test_chosen_scales_of_a_layer_equal_a_plain_loop() -> None:
    model, name = two_block_models()["ViT"], "blocks.1.mlp.fc1"
    quantised = EasyQuant(sequential=False).quantize(model, RandomImages(), BITS)
    net = prepare(model, BITS)
    layer: Any = net.model.get_submodule(name)
    ((recording,),) = record(net, RandomImages(), [layer])

    def fake(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return (x / scale).round().clamp(-8, 7) * scale

    start = [x.abs().max() / 7.5 for x in (recording.first, recording.second)]
    grids = [multiples(0.5, 1.2, 100) * s for s in start]
    x = fake(recording.second, start[1])
    weights = torch.stack([similarity(recording, fake(recording.first, s), x) for s in grids[0]])
    weight = fake(recording.first, grids[0][weights.argmax()])
    inputs = torch.stack([similarity(recording, weight, fake(recording.second, s)) for s in grids[1]])
    # Two candidates may be equally similar up to rounding, so the similarities are compared, not the places.
    for scores, grid, side in ((weights, grids[0], "weight_operand"), (inputs, grids[1], "input_operand")):
        chosen = int((grid - quantizer(quantised, f"{name}.{side}").scale).abs().argmin())
        assert scores[chosen] >= scores.max() - 1e-6


def similarity(recording: Recording, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    assert isinstance(recording.operator, Linear)
    out = nn.functional.linear(x, weight, recording.operator.bias)
    return nn.functional.cosine_similarity(out, recording.output, dim=-1).mean()


def test_doubled_weights_and_halved_inputs_leave_the_choice() -> None:
    model = two_block_models()["ViT"]
    other = two_block_models()["ViT"]
    with torch.no_grad():
        block: Any = other.blocks[0]  # type: ignore[index]
        block.norm2.weight.div_(2)
        block.norm2.bias.div_(2)
        block.mlp.fc1.weight.mul_(2)
    one, two = (EasyQuant().quantize(m, RandomImages(), BITS) for m in (model, other))
    for side, factor in (("weight_operand", 2), ("input_operand", 0.5)):
        scales = [quantizer(m, f"blocks.0.mlp.fc1.{side}").scale for m in (one, two)]
        torch.testing.assert_close(scales[1], scales[0] * factor)


@pytest.mark.parametrize("options", [{"similarity": "tensor"}, {"sequential": False, "rounds": 2}, {"form": "code_eq"}])
def test_variants_stay_close_to_the_float_model(options: dict[str, Any]) -> None:
    model = two_block_models()["Swin"]
    quantised = EasyQuant(**options).quantize(model, RandomImages(), BitSpec(8, 8))
    images = next(RandomImages().batches())
    with torch.no_grad():
        expected, actual = model(images), quantised(images)
    assert (actual - expected).norm() < 0.1 * expected.norm()


def test_sequential_inputs_are_those_of_the_quantised_prefix() -> None:
    model = two_block_models()["ViT"]
    one, two = (EasyQuant(sequential=s).quantize(model, RandomImages(), BitSpec(2, 2)) for s in (True, False))
    first = "patch_embed.proj.weight_operand"  # nothing is before it
    torch.testing.assert_close(quantizer(one, first).scale, quantizer(two, first).scale)
    last = "blocks.1.mlp.fc2.input_operand"
    assert not torch.allclose(quantizer(one, last).scale, quantizer(two, last).scale)


def test_released_codes_candidates_by_hand() -> None:
    start = torch.tensor([0.01, 0.1])
    weights = widened_weights(start)
    assert weights.shape == (99, 2)
    torch.testing.assert_close(weights[0], start)
    torch.testing.assert_close(1 / weights[1], torch.tensor([1 + 99 / 99, 1 + 9 / 99]))  # linspace(1, S, 100)[1]
    torch.testing.assert_close(1 / weights[-1], torch.tensor([100 - 1.0, 10 - 9 / 99]))
    inputs = widened_activations(start)
    assert inputs.shape == (199, 2)
    assert (inputs >= start).all() and inputs.max() < 1.25 * 0.1
    torch.testing.assert_close(inputs[1], start / (0.8 + 0.2 / 199))


def test_released_codes_form_never_narrows_a_range() -> None:
    model = two_block_models()["ViT"]
    quantised = EasyQuant(form="code_eq").quantize(model, RandomImages(), BITS)
    for name in ("blocks.0.mlp.fc1", "blocks.1.attn.proj"):
        layer: Any = model.get_submodule(name)
        found = quantizer(quantised, f"{name}.weight_operand")
        start = layer.weight.abs().amax(1) / 7.5
        assert found.scale.shape == start.shape
        assert (found.scale >= start * (1 - 1e-6)).all()
        assert quantizer(quantised, f"{name}.input_operand").granularity == "tensor"


def test_a_kind_is_exchanged_for_asymmetric_min_max_ranges_alone() -> None:
    model, behind_gelu, other = two_block_models()["ViT"], "blocks.0.mlp.fc2.input_operand", "blocks.0.mlp.fc1"
    plain = EasyQuant(candidates=4).quantize(model, RandomImages(), BITS)
    exchanged = EasyQuant(candidates=4, min_max=("gelu",)).quantize(model, RandomImages(), BITS)
    minmax = MinMax().quantize(model, RandomImages(), BITS)
    assert torch.equal(quantizer(exchanged, behind_gelu).scale, quantizer(minmax, behind_gelu).scale)
    for side in ("input_operand", "weight_operand"):
        found, expected = quantizer(exchanged, f"{other}.{side}"), quantizer(plain, f"{other}.{side}")
        assert torch.equal(found.scale, expected.scale)
