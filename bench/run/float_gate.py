"""The float gate: no quantised score counts until the same environment has reproduced the checkpoint's float score."""

from __future__ import annotations

from vitptq.bench.contracts.task import Metric, ModelCard
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Gate


def float_gate(card: ModelCard, metric: Metric, scores: dict[str, float], float_cell: Cell) -> Gate:
    """Compare the measured float score with the checkpoint's reference."""
    measured, reference = scores.get(metric.name), card.reference.get(metric.name)
    reason = ""
    if reference is None:
        reason = f"the model card of {card.name} has no reference for {metric.name}"
    elif measured is None:
        reason = f"the float cell has no score for {metric.name}"
    elif abs(measured - reference) > card.tolerance:
        reason = (
            f"float {metric.name} is {measured:.2f} here, the checkpoint's reference {reference:.2f}: "
            f"{abs(measured - reference):.2f} points apart, {card.tolerance:.2f} allowed"
        )
    return Gate(
        passed=not reason, float_cell=float_cell.id, measured=measured, reference=reference,
        tolerance=card.tolerance, reason=reason,
    )  # fmt: skip
