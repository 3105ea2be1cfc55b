"""Recompute every score from its evidence, without any model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench import registry
from bench.errors import VitptqError
from bench.record import Record
from bench.store import Store


@dataclass(frozen=True)
class Verdict:
    """What recomputing one record showed; no problem means that it holds."""

    record: Record
    problems: tuple[str, ...]


def verify(store: Store) -> Iterator[Verdict]:
    """Yield a verdict per readable record with status ok. Unreadable records are `store.problems()`."""
    known = {record.id: record for record in store.readable()}
    for record in known.values():
        if record.status == "ok":
            yield Verdict(record, tuple(_problems(record, store, known)))


def _problems(record: Record, store: Store, known: dict[str, Record]) -> Iterator[str]:
    try:
        assert record.evidence is not None  # the schema demands it of a record with status ok
        task = registry.task(record.cell.task, record.cell.edition)
        evidence = store.evidence(record.evidence)
        scores, images = task.score(evidence), task.count(evidence)
    except VitptqError as error:
        yield str(error)
        return
    if scores != record.scores:
        yield f"the evidence gives {scores}, the record says {record.scores}"
    if images != record.images:
        yield f"the evidence covers {images} images, the record says {record.images}"
    yield from _gate_problems(record, known)


def _gate_problems(record: Record, known: dict[str, Record]) -> Iterator[str]:
    """Check the gate's arithmetic, and its measured score against the float record where that is at hand."""
    gate = record.gate
    assert gate is not None
    if gate.passed and (
        gate.measured is None or gate.reference is None or abs(gate.measured - gate.reference) > gate.tolerance
    ):
        yield f"the float gate is passed, but {gate.measured} is not within {gate.tolerance} of {gate.reference}"
    reference = known.get(gate.float_cell)
    same = reference is not None and reference.provenance.environment == record.provenance.environment
    if reference is not None and same and reference.gate is not None and gate.measured != reference.gate.measured:
        yield f"the float gate says {gate.measured}, the float record {reference.gate.measured}"
