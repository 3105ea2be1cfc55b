"""The float gate: no quantised score counts until the same environment has reproduced the checkpoint's float score."""

from __future__ import annotations

from bench.cell import Cell
from bench.protocol import Metric, ModelCard
from bench.record import Gate, Record


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


def gate_of(float_record: Record, card: ModelCard, environment: str) -> Gate:
    """Return the gate that a float record opens, or keeps shut, for the quantised cells of one environment."""
    if float_record.status == "ok" and float_record.gate and float_record.provenance.environment == environment:
        return float_record.gate
    if float_record.status == "ok":
        reason = "the float cell was measured in another environment, and measuring it again here did not work"
    else:
        reason = f"the float cell failed: {float_record.failure.message if float_record.failure else 'unknown'}"
    reference = next(iter(card.reference.values()), None)
    return Gate(
        passed=False,
        float_cell=float_record.id,
        measured=None,
        reference=reference,
        tolerance=card.tolerance,
        reason=reason,
    )
