"""Q-HyViT: what the search chooses among, and that it never does worse than where it starts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from tests.methods.core.search.hybrids import HYBRIDS, FourImages, tiny_mobilevit
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.model.operands import Conv2d
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.integer import IntegerLayerNorm, LogIntSoftmax
from vitptq.methods.core.search.alternating import alternate, at_own_output, operator_slots
from vitptq.methods.core.search.recording import MEGABYTE, Recording
from vitptq.methods.ptq4vit import PTQ4ViT
from vitptq.methods.q_hyvit import QHyViT

BITS = BitSpec(4, 4)


def depthwise_recording() -> Recording:
    torch.manual_seed(0)
    operator: Any = Conv2d(nn.Conv2d(4, 4, 3, groups=4), BITS).requires_grad_(False)
    x = torch.randn(3, 4, 6, 6) * torch.tensor([0.1, 1.0, 5.0, 20.0])[:, None, None] + 1
    output = operator(x)
    return Recording(operator, operator.weight, x, output, torch.rand(output.shape))


def error(recording: Recording, weight: Any, x: Any) -> float:
    operator: Any = recording.operator
    out = operator._conv_forward(x(recording.second), weight(recording.first), operator.bias)
    return ((out - recording.output) * recording.gradient).square().sum().item()


def test_each_step_of_the_search_lowers_the_error_of_a_depthwise_convolution() -> None:
    recording = depthwise_recording()
    operator: Any = recording.operator
    errors = []
    for options in ({"granularity": "layer", "scheme": "symmetric"}, {"scheme": "symmetric"}, {}):
        method = QHyViT(rounds=1, candidates=40, **options)  # type: ignore[arg-type]
        slots = operator_slots(operator, [recording], partial(method._families, None, "layer"))  # type: ignore[arg-type]
        if not errors:
            errors.append(error(recording, *(slot.families[0].default() for slot in slots)))
        found = alternate(slots, at_own_output([recording], slots, MEGABYTE), method.rounds)
        errors.append(error(recording, *found.values()))
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.7 * errors[1]  # channels of so different width want a scale each


def test_without_its_ideas_it_chooses_as_ptq4vit_without_twins() -> None:
    model, images = two_block_models()["ViT"], RandomImages()
    plain = QHyViT(rounds=1, candidates=20, granularity="layer", scheme="symmetric").quantize(model, images, BITS)
    parent = PTQ4ViT(rounds=1, candidates=20, twin_softmax=False, twin_gelu=False).quantize(model, images, BITS)
    same = []
    for name, operand in prepare(model, BITS).operands.items():
        scales: list[Any] = [m.get_submodule(name).quantizer.scale for m in (plain, parent)]  # type: ignore[union-attr]
        same.append(torch.allclose(*scales) if scales[0].shape == scales[1].shape else False)
        assert operand.name == name
    assert sum(same) > 0.6 * len(same)  # factor 1 is a candidate here and not there


@pytest.mark.parametrize("kind", HYBRIDS)
def test_bridges_change_what_is_chosen_and_the_audit_is_clean(kind: str) -> None:
    build, calibration = HYBRIDS[kind]
    model: nn.Module = build()
    images: Calibration = calibration()
    quantised = QHyViT(rounds=1, candidates=8).quantize(model, images, BITS)
    batch = next(images.batches())
    assert audit(quantised, BITS, batch[:1], images.forward).violations == ()
    without = QHyViT(rounds=1, candidates=8, bridges=False).quantize(model, images, BITS)
    with torch.no_grad():
        assert not torch.equal(quantised(batch), without(batch))


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "full"},
        {"bridge_score": "block+own", "gradient_point": "bridge"},
        {"granularity": "rule", "scheme": "symmetric"},
    ],
)
def test_variants_pass_the_audit_on_a_hybrid(options: dict[str, Any]) -> None:
    images = FourImages()
    quantised = QHyViT(rounds=1, candidates=2, **options).quantize(tiny_mobilevit(), images, BITS)
    batch = next(images.batches())
    assert audit(quantised, BITS, batch[:1], images.forward).violations == ()
    integer = [m for m in quantised.modules() if isinstance(m, IntegerLayerNorm)]
    softmaxes = [m for m in quantised.modules() if isinstance(m, LogIntSoftmax)]
    assert (len(integer) > 0) == (len(softmaxes) > 0) == ("mode" in options)
    inputs = {n: m for n, m in quantised.named_modules() if n.endswith("conv2_kxk.conv.input_operand.quantizer")}
    if options.get("granularity") == "rule":
        found: Any = list(inputs.values())
        assert found and all(quantizer.granularity == "channel" and quantizer.low < 0 for quantizer in found)
