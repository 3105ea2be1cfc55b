"""Training one unit: terms and their first values, autocast, straight through, parts of a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.run.adapter_check import CPU, RandomImages, two_block_models
from vitptq.methods.core.reconstruct import (
    RenewedLoss,
    Settings,
    StepTensors,
    Unit,
    reconstruct,
    squared_error,
)
from vitptq.methods.core.reconstruct.least_error_start import calibrated
from vitptq.methods.core.reconstruct.mini_batches import mini_batches
from vitptq.methods.core.reconstruct.trainer import Trainer

BITS = BitSpec(3, 3)
FAST = Settings(iterations=4, batch=4, weight_rate=0.05, seed=3)


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


def test_a_renewed_loss_is_renewed_in_front_of_its_steps_and_starts_at_its_factor_again() -> None:
    net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
    renewals: list[int] = []
    values: list[float] = []

    def make(unit: Unit) -> Any:
        plain = squared_error(unit)
        loss = RenewedLoss(lambda s: 10.0 ** len(renewals) * plain(s), renewals.append, (1, 3), judge=plain)  # type: ignore[operator]
        trainer = Trainer(unit, replace(FAST, normalise=2.0), loss)
        values.extend(trainer.step(step).item() for step in (1, 2, 3, 4))
        trainer.close()
        return loss

    (result, *_) = reconstruct(net, twin, RandomImages(), replace(FAST, iterations=0), loss=make, units=["blocks.0"])
    assert renewals == [0, 1]
    assert [value == pytest.approx(2.0) for value in values] == [True, False, True, False]
    assert set(result.before) == {"loss"}


def test_bf16_is_noted_and_close() -> None:

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


def test_parts_of_a_batch_give_its_gradient() -> None:
    found = []
    for parts in (1, 4):
        net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
        from vitptq.methods.core.reconstruct import engine
        from vitptq.methods.core.reconstruct.trainer import Trainer

        def first_gradients(unit: Unit, parts: int = parts) -> Any:
            trainer = Trainer(
                unit, replace(FAST, batch=8, quantised_probability=1.0, input="quantised"), squared_error(unit), parts
            )
            with torch.enable_grad():
                trainer._gradients(*mini_batches(unit.plan, [(0, torch.arange(8))], CPU))
            found.append([form.alpha.grad.clone() for form in trainer.rounded.values() if form.alpha.grad is not None])
            trainer.close()
            return squared_error(unit)

        engine.reconstruct(
            net, twin, RandomImages(), replace(FAST, iterations=0), loss=first_gradients, units=["blocks.0"]
        )
    for whole, split in zip(*found, strict=True):
        torch.testing.assert_close(whole, split, rtol=1e-3, atol=1e-7)
