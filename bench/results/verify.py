"""Recompute every score from its evidence, without any model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitptq.bench import registry
from vitptq.bench.contracts.task import Evidence, Task
from vitptq.bench.errors import VitptqError
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store


@dataclass(frozen=True)
class Verdict:
    """What recomputing one record showed; no problem means that it holds."""

    record: Record
    problems: tuple[str, ...]


def verify(store: Store) -> Iterator[Verdict]:
    """Yield a verdict per readable record with status ok. Unreadable records are `store.problems()`."""
    known = {record.id: record for record in store.readable()}
    truth: dict[tuple[str, ...], tuple[str, str]] = {}
    for record in known.values():
        if record.status == "ok":
            yield Verdict(record, (*_problems(record, store, known, truth), *_image_problems(record, store)))


def _problems(
    record: Record, store: Store, known: dict[str, Record], truth: dict[tuple[str, ...], tuple[str, str]]
) -> Iterator[str]:
    try:
        assert record.evidence is not None  # the schema demands it of a record with status ok
        task = registry.task(record.cell.task, record.cell.edition)
        evidence = store.evidence(record.evidence)
        scores, images = task.score(evidence), task.count(evidence)
        yield from _truth_problems(record, task, evidence, truth)
        yield from _gate_problems(record, store, task, known)
    except VitptqError as error:
        yield str(error)
        return
    if scores != record.scores:
        yield f"the evidence gives {scores}, the record says {record.scores}"
    if images != record.images:
        yield f"the evidence covers {images} images, the record says {record.images}"


def _image_problems(record: Record, store: Store) -> Iterator[str]:
    """Check that the images which the method made are there as they were."""
    for name, ref in sorted(record.details.method.images.items()):
        try:
            store.evidence(ref)
        except VitptqError as error:
            yield f"{name} images: {error}"


def _truth_problems(
    record: Record, task: Task, evidence: Evidence, truth: dict[tuple[str, ...], tuple[str, str]]
) -> Iterator[str]:
    """Check that the labels are those of every other record of the same data."""
    key = (record.cell.task, record.cell.edition, record.cell.data)
    found = task.truth(evidence)
    first, expected = truth.setdefault(key, (record.id, found))
    if found != expected:
        yield f"the labels in the evidence differ from those of record {first[:12]}, which has the same data"


def _gate_problems(record: Record, store: Store, task: Task, known: dict[str, Record]) -> Iterator[str]:
    """Check the gate's figures against the model's card, and its measured score against evidence."""
    gate, card, metric = record.gate, task.models().get(record.cell.model), task.ranking_metric.name
    assert gate is not None  # the schema demands it of a record with status ok
    if card is not None and card.checkpoint == record.cell.checkpoint:
        expected = card.reference.get(metric), card.tolerance
        if (gate.reference, gate.tolerance) != expected:
            yield f"the float gate says {gate.reference} +- {gate.tolerance}, the model's card %s +- %s" % expected
    inside = (
        gate.measured is not None
        and gate.reference is not None
        and abs(gate.measured - gate.reference) <= gate.tolerance
    )
    if gate.passed and not inside:
        yield f"the float gate is passed, but {gate.measured} is not within {gate.tolerance} of {gate.reference}"
    reference = record if record.cell.is_float else known.get(gate.float_cell)
    if gate.evidence is not None:
        proven = task.score(store.evidence(gate.evidence)).get(metric)
    elif reference is not None:
        proven = reference.scores.get(metric)
    else:
        yield f"the float gate rests on cell {gate.float_cell[:12]}, which is not in this folder"
        return
    if gate.measured != proven:
        yield f"the float gate says {gate.measured}, its evidence {proven}"
