"""The float gate: open within the tolerance, shut with its reason otherwise."""

from __future__ import annotations

import pytest

from tests.bench.record_factory import make_cell
from vitptq.bench.contracts.task import Metric, ModelCard
from vitptq.bench.results.record import Gate
from vitptq.bench.run.float_gate import float_gate

TOP1 = Metric("top1", "Top-1")
FLOAT = make_cell(method="float", bits="W32A32")


def gate(scores: dict[str, float], reference: dict[str, float] | None = None) -> Gate:
    card = ModelCard("tiny", "vit", "sha256:0", reference or {"top1": 80.0}, tolerance=0.25)
    return float_gate(card, TOP1, scores, FLOAT)


@pytest.mark.parametrize("measured", [79.75, 80.0, 80.25])
def test_score_within_the_tolerance_opens_it_without_a_reason(measured: float) -> None:
    found = gate({"top1": measured})
    assert found.passed and not found.reason


@pytest.mark.parametrize("measured", [79.5, 80.5])
def test_score_beyond_it_on_either_side_shuts_it_and_the_distance_is_named(measured: float) -> None:
    found = gate({"top1": measured})
    assert not found.passed
    assert "0.50 points apart, 0.25 allowed" in found.reason


def test_missing_score_or_reference_shuts_it_and_is_named() -> None:
    assert gate({"top5": 95.0}).reason == "the float cell has no score for top1"
    assert gate({"top1": 80.0}, {"top5": 95.0}).reason == "the model card of tiny has no reference for top1"


def test_it_names_the_float_cell_that_opened_it() -> None:
    assert gate({"top1": 80.0}).float_cell == FLOAT.id
