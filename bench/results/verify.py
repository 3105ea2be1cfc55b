"""Recompute every score, and what else a record says, from its evidence and its own figures, without any model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from vitptq.bench import registry
from vitptq.bench.contracts.task import Evidence, Task
from vitptq.bench.errors import UnknownName, VitptqError, brief
from vitptq.bench.results import record_checks
from vitptq.bench.results.cell import canonical_json
from vitptq.bench.results.record import Gate, Record
from vitptq.bench.results.store import Store
from vitptq.bench.spread import spread

FEW_IMAGES = 200
"""Predictions for fewer images than this may agree by chance under two seeds."""
FEW_BITS = 6
"""From here on no model was seen that predicts for every one of so many images what the float model does."""


@dataclass(frozen=True)
class Verdict:
    """What recomputing one record showed; no problem means that it holds."""

    record: Record
    problems: tuple[str, ...]


@dataclass
class _Folder:
    """What the records of one results folder must agree on."""

    store: Store
    records: dict[str, Record]
    truths: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)
    """First record and hash of the labels, by data."""
    predictions: dict[str, str] = field(default_factory=dict)
    """Content of the float records' evidence, by id."""
    evidence: dict[tuple[str, ...], Record] = field(default_factory=dict)
    """First record by its cell but for the seed, and the content of its evidence."""


def verify(store: Store, records: Iterable[Record] | None = None) -> Iterator[Verdict]:
    """Yield a verdict per record with status ok: of `records`, or of every readable one in the store.

    Whatever a record or its evidence holds becomes a sentence. Unreadable records are `store.problems()`.
    """
    folder = _Folder(store, {record.id: record for record in (store.readable() if records is None else records)})
    groups = _independent([record for record in folder.records.values() if record.status == "ok"])
    if not groups:
        return
    for group in groups.values():
        _remember_labels(group[0], folder)
    every = sum(map(len, groups.values()))
    found = spread(partial(_of_group, folder), list(groups.values()), every // len(groups)).results()
    for group, told in zip(groups.values(), found, strict=True):
        yield from (Verdict(record, problems) for record, problems in zip(group, told, strict=True))


def _independent(records: Sequence[Record]) -> dict[tuple[str, ...], list[Record]]:
    """Return the records in groups that say nothing about each other, but for what labels their data has."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault((record.cell.task, record.cell.edition, record.cell.model), []).append(record)
    return groups


def _of_group(folder: _Folder, group: Sequence[Record]) -> list[tuple[str, ...]]:
    return [tuple(_problems(record, folder)) for record in group]


def _remember_labels(record: Record, folder: _Folder) -> None:
    """Let the first record with readable evidence say what labels its data has, for all groups alike."""
    with suppress(Exception):  # whatever is wrong is said where the record itself is looked at
        assert record.evidence is not None
        task = registry.task(record.cell.task, record.cell.edition)
        key = (record.cell.task, record.cell.edition, record.cell.data)
        if key not in folder.truths:
            folder.truths[key] = (record.id, task.truth(folder.store.evidence(record.evidence)))


def _problems(record: Record, folder: _Folder) -> Iterator[str]:
    float_record = record if record.cell.is_float else folder.records.get(record.gate.float_cell if record.gate else "")
    yield from _told("dates", record_checks.date_problems(record))
    yield from _told("provenance", record_checks.provenance_problems(record))
    yield from _told("costs", record_checks.cost_problems(record, float_record))
    yield from _told("audit", record_checks.audit_problems(record, float_record))
    yield from _told("fidelity", record_checks.fidelity_problems(record))
    yield from _told("parameters", record_checks.parameter_problems(record))
    yield from _told("images", _image_problems(record, folder.store))
    try:
        task = registry.task(record.cell.task, record.cell.edition)
    except UnknownName as error:
        yield f"{error}; its scores cannot be recomputed"
        return
    yield from _told("names", record_checks.name_problems(record, task))
    yield from _told("metrics", record_checks.metric_problems(record, task))
    yield from _told("calibration list", record_checks.calibration_problems(record, task))
    yield from _told("evidence", _evidence_problems(record, folder, task))
    yield from _told("float gate", _gate_problems(record, folder, task))


def _told(what: str, problems: Iterator[str]) -> Iterator[str]:
    """Yield the problems; an error while looking for them is one as well, because a record may hold anything."""
    try:
        yield from problems
    except VitptqError as error:
        yield str(error)
    except Exception as error:  # noqa: BLE001  a task's arithmetic on arrays of any origin
        yield f"{what} cannot be checked ({type(error).__name__}: {brief(error)})"


def _evidence_problems(record: Record, folder: _Folder, task: Task) -> Iterator[str]:
    assert record.evidence is not None  # the schema demands it of a record with status ok
    if record.evidence.file != f"{record.id}.npz":
        yield f"the evidence is in {brief(record.evidence.file)}, not in this cell's own file"
    evidence = folder.store.evidence(record.evidence)
    yield from _told("scores", _score_problems(record, task, evidence))
    yield from _told("labels", _label_problems(record, folder, task, evidence))
    yield from _told("seeds", _seed_problems(record, folder, evidence))
    yield from _told("predictions", _prediction_problems(record, folder, evidence))


def _score_problems(record: Record, task: Task, evidence: Evidence) -> Iterator[str]:
    scores, images = task.score(evidence), task.count(evidence)
    if scores != record.scores:
        yield f"the evidence gives {brief(scores, 240)}, the record says {brief(record.scores, 240)}"
    if images != record.images:
        yield f"the evidence covers {images} images, the record says {record.images}"


def _label_problems(record: Record, folder: _Folder, task: Task, evidence: Evidence) -> Iterator[str]:
    """Check that the labels are those of every other record of the same data, and the task's own where it has them."""
    key = (record.cell.task, record.cell.edition, record.cell.data)
    found = task.truth(evidence)
    first, expected = folder.truths.setdefault(key, (record.id, found))
    if found != expected:
        yield f"the labels in the evidence differ from those of record {first[:12]}, which has the same data"
    own = task.own_truth() or folder.truths.get((*key[:2], task.data_version), ("", ""))[1]
    if own and found != own:
        yield (
            f"the labels in the evidence are not those of data {brief(task.data_version)}, which the task evaluates on"
            + (f"; data {brief(record.cell.data)} is unknown to it" if record.cell.data != task.data_version else "")
        )
    elif not own and record.cell.data != task.data_version:
        known = brief(task.data_version)
        yield f"data {brief(record.cell.data)} is not the task's, {known}: its labels cannot be checked"


def _seed_problems(record: Record, folder: _Folder, evidence: Evidence) -> Iterator[str]:
    """Check that another seed gave other predictions, for a method that draws images or numbers."""
    if record.cell.is_float or record.images < FEW_IMAGES or not registry.method(record.cell.method).seeded:
        return
    asked = record.cell.model_dump(mode="json", exclude={"seed", "calibration_list", "run_time"})
    first = folder.evidence.setdefault((canonical_json(asked), _content(evidence)), record)
    if first is not record:
        yield f"the evidence is the same as that of seed {first.cell.seed} (record {first.id[:12]}): seeds draw anew"


def _prediction_problems(record: Record, folder: _Folder, evidence: Evidence) -> Iterator[str]:
    """Check that a model of few bits does not predict just what the float model does."""
    bits = record.cell.bit_spec
    reference = folder.records.get(record.gate.float_cell) if record.gate else None
    if min(bits.weights, bits.activations) > FEW_BITS or record.images < FEW_IMAGES:
        return
    if reference is None or reference is record or reference.evidence is None:
        return
    if reference.id not in folder.predictions:
        folder.predictions[reference.id] = _content(folder.store.evidence(reference.evidence))
    if folder.predictions[reference.id] == _content(evidence):
        yield f"the evidence is that of the float model (record {reference.id[:12]}), at {record.cell.bits}"


def _content(evidence: Evidence) -> str:
    """Return a hash of the arrays, however their file is packed."""
    digest = hashlib.sha256()
    for name, values in sorted(evidence.items()):
        digest.update(f"{name}\0{values.dtype}\0{values.shape}\0".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _image_problems(record: Record, store: Store) -> Iterator[str]:
    """Check that the images which the method made are there as they were."""
    for name, ref in sorted(record.details.method.images.items()):
        if ref.file != f"{record.id}.{name}.npz":
            yield f"{brief(name)} images: {brief(ref.file)} is not this cell's own file"
        try:
            store.evidence(ref)
        except VitptqError as error:
            yield f"{brief(name)} images: {error}"


def _gate_problems(record: Record, folder: _Folder, task: Task) -> Iterator[str]:
    """Check the gate's figures against the model's card, and its measured score against evidence."""
    gate, card, metric = record.gate, task.models().get(record.cell.model), task.ranking_metric.name
    assert gate is not None  # the schema demands it of a record with status ok
    if card is not None:
        expected = card.reference.get(metric), card.tolerance
        if (gate.reference, gate.tolerance) != expected:
            yield f"the float gate says {gate.reference} +- {gate.tolerance}, the model's card %s +- %s" % expected
    inside = (
        gate.measured is not None
        and gate.reference is not None
        and abs(gate.measured - gate.reference) <= gate.tolerance
    )
    if gate.passed == bool(gate.reason):
        yield f'the float gate is {"passed" if gate.passed else "shut"} and gives the reason "{brief(gate.reason)}"'
    if gate.passed != inside:
        state = "passed, but" if gate.passed else "shut, although"
        isnt = "is not" if gate.passed else "is"
        yield f"the float gate is {state} {gate.measured} {isnt} within {gate.tolerance} of {gate.reference}"
    reference = record if record.cell.is_float else folder.records.get(gate.float_cell)
    yield from _float_cell_problems(record, gate, reference)
    if gate.evidence is not None:
        if not gate.evidence.file.startswith(f"{gate.float_cell}."):
            yield f"the float gate's evidence is in {brief(gate.evidence.file)}, which is not its float cell's file"
        proven = task.score(folder.store.evidence(gate.evidence)).get(metric)
    elif reference is not None:
        proven = reference.scores.get(metric)
    else:
        yield f"the float gate rests on cell {brief(gate.float_cell)[:12]}, which is not in this folder"
        return
    if gate.measured != proven:
        yield f"the float gate says {gate.measured}, its evidence {proven}"


def _float_cell_problems(record: Record, gate: Gate, reference: Record | None) -> Iterator[str]:
    """Check that the gate rests on the float model of this very checkpoint and data."""
    if record.cell.is_float and gate.float_cell != record.id:
        yield f"the float gate of a float cell names another cell, {brief(gate.float_cell)[:12]}"
    if reference is None:
        return
    same = ("task", "edition", "data", "model", "checkpoint")
    differing = [name for name in same if getattr(reference.cell, name) != getattr(record.cell, name)]
    if not reference.cell.is_float or differing:
        what = f"another {' and '.join(differing)}" if differing else "no float model"
        yield f"the float gate rests on cell {reference.id[:12]}, which has {what}"
