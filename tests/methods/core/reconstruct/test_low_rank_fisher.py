"""FIMA-Q's quadratic form: both terms by hand, what makes the low rank unsafe, and images of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.methods.core.reconstruct.sizes_model import Sizes, stages
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.reconstruct import RenewedLoss, Settings, StepTensors, Unit, reconstruct, squared_error
from vitptq.methods.core.reconstruct.float_predictions import float_predictions
from vitptq.methods.core.reconstruct.least_error_start import calibrated
from vitptq.methods.core.reconstruct.low_rank_fisher import LowRankFisher, inverse_of_errors, low_rank_fisher
from vitptq.methods.core.reconstruct.mini_batches import mini_batches

BITS = BitSpec(3, 3)
STILL = Settings(iterations=0, input="quantised", quantised_probability=1.0)


def within(
    nets: tuple[PreparedModel, PreparedModel], calibration: Calibration, look: Callable[[Unit, Any], None]
) -> None:
    """Call `look` with the first block, its inputs cached, and its loss."""
    net, twin = nets
    expected = float_predictions(twin, calibration, calibration.forward, memory=10**8)

    def make(unit: Unit) -> Any:
        loss = low_rank_fisher(unit, calibration.forward, expected, temperature=20.0, iterations=10, renewals=3)
        look(unit, loss)
        return squared_error(unit)

    reconstruct(net, twin, calibration, STILL, loss=make, units=["blocks.0"])


def step_of(unit: Unit) -> StepTensors:
    """Return all images as the renewal sees them: the unit on float inputs."""
    (batch,) = mini_batches(unit.plan, [(0, torch.arange(unit.plan.sizes[0]))], unit.calibration.device)
    return unit.step_tensors(batch, lambda q, x: x, "float")


def vit() -> tuple[PreparedModel, PreparedModel]:
    return calibrated(two_block_models()["ViT"], RandomImages(), BITS)


def test_the_terms_of_one_renewal_by_hand() -> None:
    def look(unit: Unit, loss: RenewedLoss) -> None:
        loss.renew(0)
        seen = step_of(unit)
        fisher = loss.loss
        assert isinstance(fisher, LowRankFisher)
        out = seen.output.detach().requires_grad_()
        logits = unit.float_tail()([out], seen.indices) / 20  # type: ignore[operator]
        target = (unit.twin.model(next(RandomImages().batches())) / 20).softmax(-1)
        kl = torch.nn.functional.kl_div(logits.log_softmax(-1), target, reduction="sum")
        (gradient,) = torch.autograd.grad(kl, out)
        g = gradient.abs().mean(0).flatten()
        torch.testing.assert_close(fisher.gradients[0].flatten(), g, rtol=1e-3, atol=1e-9)
        e = (seen.output - seen.target).abs().flatten(1)
        d = e.mean(0)
        g = g / g.max()
        terms = loss(seen)
        assert isinstance(terms, dict)
        torch.testing.assert_close(terms["low rank"], ((e @ g).square() / (d @ d)).mean(), rtol=1e-3, atol=0)
        torch.testing.assert_close(terms["diagonal"], (e.square() * g).mean(), rtol=1e-3, atol=0)

    with torch.enable_grad():
        within(vit(), RandomImages(), look)


def test_the_diagonal_with_equal_weights_is_the_squared_error() -> None:
    def look(unit: Unit, loss: RenewedLoss) -> None:
        loss.renew(0)
        fisher = loss.loss
        assert isinstance(fisher, LowRankFisher) and fisher._weights is not None
        fisher._weights = torch.ones_like(fisher._weights)
        seen = step_of(unit)
        torch.testing.assert_close(fisher(seen)["diagonal"], (seen.output - seen.target).square().mean())

    within(vit(), RandomImages(), look)


def test_a_unit_without_error_has_terms_of_nought() -> None:
    def look(unit: Unit, loss: RenewedLoss) -> None:
        loss.renew(0)
        loss.renew(1)
        terms = loss(step_of(unit))
        assert isinstance(terms, dict) and set(terms) == {"diagonal"} and terms["diagonal"] == 0

    nets = prepare(two_block_models()["ViT"], BITS), prepare(two_block_models()["ViT"], BITS)
    within(nets, RandomImages(), look)


def test_renewals_grow_the_maps_and_number_nought_begins_anew() -> None:
    def look(unit: Unit, loss: RenewedLoss) -> None:
        fisher = loss.loss
        assert isinstance(fisher, LowRankFisher)
        assert loss.steps == (1, 4, 7)
        for number, rows in ((0, 1), (1, 2), (0, 1)):
            loss.renew(number)
            assert len(fisher.gradients) == len(fisher.errors) == rows
        assert fisher.gradients[0].shape == (17, 32)

    within(vit(), RandomImages(), look)


def test_maps_are_per_channel_where_images_differ_in_size() -> None:
    def look(unit: Unit, loss: RenewedLoss) -> None:
        loss.renew(0)
        fisher = loss.loss
        assert isinstance(fisher, LowRankFisher)
        assert fisher.gradients[0].shape == (8,)
        terms = loss(step_of(unit))
        assert isinstance(terms, dict) and all(term > 0 for term in terms.values())

    within(stages(), Sizes(), look)


def test_rows_that_differ_little_are_left_out_of_the_low_rank() -> None:
    rows = torch.rand(3, 50, generator=torch.Generator().manual_seed(1))
    kept, inverse = inverse_of_errors(rows)
    assert kept == 3 and inverse is not None
    torch.testing.assert_close(inverse, torch.linalg.inv(rows @ rows.T), rtol=1e-3, atol=1e-4)
    rows[2] = rows[1] * (1 + 1e-6)
    kept, inverse = inverse_of_errors(rows)
    assert kept == 2 and inverse is not None and inverse.shape == (2, 2)
    assert inverse_of_errors(torch.zeros(1, 50)) == (0, None)


@pytest.mark.parametrize(("iterations", "renewals", "steps"), [(20, 3, (1, 7, 13)), (2, 5, (1, 2)), (3, 3, (1, 2, 3))])
def test_there_are_at_most_so_many_renewals(iterations: int, renewals: int, steps: tuple[int, ...]) -> None:
    found = []

    def make(unit: Unit) -> Any:
        expected = float_predictions(unit.twin, RandomImages(), RandomImages().forward, memory=10**8)
        loss = low_rank_fisher(
            unit, RandomImages().forward, expected, temperature=20.0, iterations=iterations, renewals=renewals
        )
        found.append(loss.steps)
        return squared_error(unit)

    reconstruct(*vit(), RandomImages(), STILL, loss=make, units=["blocks.1"])
    assert found == [steps]
