"""Losses: by hand, and what they may ask of a unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.reconstruct import (
    PerSample,
    Settings,
    StepTensors,
    Unit,
    all_units,
    divergence,
    power_error,
    reconstruct,
    squared_error,
    weighted_error,
)
from vitptq.methods.core.reconstruct.least_error_start import calibrated
from vitptq.methods.core.reconstruct.trainer import Trainer

BITS = BitSpec(3, 3)
FAST = Settings(iterations=4, batch=4, weight_rate=0.05, seed=3)


class Named:
    """As much of a unit as a loss reads."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module


def seen(output: Tensor, target: Tensor) -> StepTensors:
    return StepTensors([output], [target], torch.arange(len(output)))


def test_squared_error_sums_channels_and_averages_the_rest() -> None:
    tokens = torch.randn(2, 5, 3)
    assert squared_error(Named(nn.Identity()))(seen(tokens, tokens + 2)).item() == pytest.approx(3 * 4)  # type: ignore[union-attr]
    maps = torch.randn(2, 3, 5, 5)
    assert squared_error(Named(nn.Conv2d(1, 1, 1)))(seen(maps, maps + 2)).item() == pytest.approx(3 * 4)  # type: ignore[union-attr]
    assert power_error(3)(Named(nn.Identity()))(seen(tokens, tokens - 2)).item() == pytest.approx(3 * 8, rel=1e-5)  # type: ignore[union-attr]


def test_weighted_error_looks_samples_up() -> None:
    output, target = torch.zeros(2, 2), torch.ones(2, 2)
    loss = weighted_error(lambda unit: PerSample([torch.tensor([[1.0, 3.0], [0.0, 8.0]])]))(Named(nn.Identity()))
    assert loss(seen(output, target)).item() == 3  # type: ignore[union-attr]


def test_divergence_of_equal_logits_is_zero() -> None:
    logits = torch.randn(4, 7)
    assert divergence(None)(seen(logits, logits)).item() == pytest.approx(0, abs=1e-6)  # type: ignore[union-attr]


def test_taps_are_the_inner_outputs_of_both_units() -> None:
    net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
    shapes: dict[str, Any] = {}

    def tapping(unit: Unit) -> Any:
        unit.tap("attn.av", "mlp.fc1")

        def loss(s: StepTensors) -> Any:
            shapes.update({name: tuple(x.shape[1:]) for name, x in s.inner.items()})
            assert not any(x.requires_grad for x in s.inner_targets.values())
            expected = unit.float_module.get_submodule("mlp.fc1")
            assert s.inner_targets["mlp.fc1"].shape[-1] == expected.out_features  # type: ignore[union-attr]
            return {
                "block": (s.output - s.target).square().mean(),
                "inner": sum((s.inner[n] - s.inner_targets[n]).square().mean() for n in s.inner),
            }

        return loss

    results = reconstruct(net, twin, RandomImages(), FAST, loss=tapping)
    assert shapes == {"attn.av": (2, 17, 16), "mlp.fc1": (17, 128)}
    assert set(results[0].before) == {"block", "inner"}


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


def test_final_unit_is_the_one_whose_output_is_the_models() -> None:
    net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
    final = []

    def make(unit: Unit) -> Any:
        final.append((unit.name, unit.final))
        return divergence(unit) if unit.final else squared_error(unit)

    reconstruct(net, twin, RandomImages(), FAST, loss=make, units=all_units(net))
    assert [name for name, is_final in final if is_final] == ["head"]


def test_normalised_terms_start_at_their_factor() -> None:
    net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
    values = []

    def make(unit: Unit) -> Any:
        plain = squared_error(unit)

        def terms(s: StepTensors) -> Any:
            return {"a": plain(s), "b": 100 * plain(s)}  # type: ignore[operator]

        settings = replace(FAST, normalise=2.0, term_weights={"b": 0.5})
        trainer = Trainer(unit, settings, terms)
        values.append(trainer.step(1).item())
        trainer.close()
        return squared_error(unit)

    reconstruct(net, twin, RandomImages(), replace(FAST, iterations=0), loss=make)
    assert values == pytest.approx([2 * 1 + 2 * 0.5] * 2)


def test_bf16_is_noted_and_close() -> None:
    from vitptq.bench.contracts import reporting

    found = []
    for autocast in ("off", "bf16"):
        net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
        with reporting.listening() as heard:
            results = reconstruct(net, twin, RandomImages(), replace(FAST, autocast=autocast))  # type: ignore[arg-type]
        found.append((heard.notes, results[0].after["loss"]))
    assert found[0][0] == [] and found[1][0] == ["units trained with bf16 autocast"]
    assert found[1][1] == pytest.approx(found[0][1], rel=0.1)


def test_straight_through_trains_weights_in_float_where_the_slot_is_off() -> None:
    net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
    for operand in net.weights.values():
        operand.on = False
    before = {n: x.clone() for n, x in net.model.state_dict().items()}
    settings = replace(FAST, weights="ste", weight_rate=1e-3, scales=False, norms=True, iterations=8)
    results = reconstruct(net, twin, RandomImages(), settings)
    assert all(r.after["loss"] < r.before["loss"] for r in results)
    moved = {n for n, x in net.model.state_dict().items() if not torch.equal(x, before[n])}
    assert {"blocks.0.norm1.weight", "blocks.1.mlp.fc2.weight"} <= moved
    assert not any("scale" in n or n.endswith("fc1.bias") for n in moved)
