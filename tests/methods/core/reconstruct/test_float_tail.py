"""The float tail: the model behind a unit, and the gradient through it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.reconstruct import (
    Settings,
    StepTensors,
    Unit,
    reconstruct,
)
from vitptq.methods.core.reconstruct.least_error_start import calibrated

BITS = BitSpec(3, 3)
FAST = Settings(iterations=4, batch=4, weight_rate=0.05, seed=3)


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_suffix_is_the_model_behind_the_unit(name: str) -> None:
    net, twin = calibrated(two_block_models()[name], RandomImages(), BITS)
    images = next(RandomImages().batches())
    with torch.no_grad():
        expected = twin.model(images)
    before = {n: x.clone() for n, x in twin.model.state_dict().items()}
    checked = []

    def make(unit: Unit) -> Any:
        float_tail = unit.float_tail()

        def loss(s: StepTensors) -> Any:
            with torch.no_grad():
                same = float_tail(s.targets, s.indices)
            torch.testing.assert_close(same, expected[s.indices])
            predicted = float_tail(s.outputs, s.indices)
            checked.append(unit.name)
            return (predicted - expected[s.indices]).square().mean()  # type: ignore[operator]

        return loss

    reconstruct(net, twin, RandomImages(), replace(FAST, iterations=2), loss=make)
    assert len(set(checked)) == len(net.blocks())
    assert all(torch.equal(x, before[n]) for n, x in twin.model.state_dict().items())


def test_gradient_through_the_suffix_against_finite_differences() -> None:
    model = two_block_models()["ViT"].double()
    images = next(RandomImages().batches())[:2].double()

    class Double(RandomImages):
        def batches(self) -> Any:
            yield images

    from vitptq.methods.core.reconstruct.float_tail import FloatTail
    from vitptq.methods.core.reconstruct.plan import plan

    twin = prepare(model, BITS)
    (found,) = plan(twin, Double(), ["blocks.0"])
    float_tail = FloatTail(twin, Double(), found, Double().forward)
    x = torch.randn(2, 17, 32, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)
    value = float_tail([x], torch.arange(2)).square().sum()  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(value, x)
    with torch.no_grad():
        ends = [float_tail([x + e * direction], torch.arange(2)).square().sum() for e in (1e-5, -1e-5)]  # type: ignore[union-attr]
    assert (gradient * direction).sum().item() == pytest.approx(((ends[0] - ends[1]) / 2e-5).item(), rel=1e-6)
