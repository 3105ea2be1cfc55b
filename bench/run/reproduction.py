"""Repeat one cell from its record, and say where the two results differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from vitptq.bench import registry
from vitptq.bench.errors import BadInput, UnknownName, brief
from vitptq.bench.files import shown
from vitptq.bench.results import record_file
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import UNKNOWN, Record
from vitptq.bench.results.store import Store
from vitptq.bench.source_hash import source_hash

LISTED = 10
"""Differences that are listed; the others are counted."""
BEGINNING_OF_ID = re.compile(r"[0-9a-f]{6,64}")


def find_record(name: str, store: Store) -> Record:
    """Return the record that a person names: a file, or the beginning of an id in the results folder.

    Raises BadInput where there is none, or where several begin so.
    """
    if name.endswith(".json"):
        return record_file.read_record(Path(name))
    store.require()
    found = sorted(store.records_dir.glob(f"{name}*.json")) if BEGINNING_OF_ID.fullmatch(name) else []
    if len(found) == 1:
        return record_file.read_record(found[0])
    many = f"{len(found)} records begin so" if found else "no record has this id"
    raise BadInput(
        f'"{brief(name)}" names no record of {shown(store.root)}: {many}; give the path of its .json file, '
        "or the first 6 or more digits of its id, which is on the run's page and in vitptq board --format csv"
    )


def repeatable_cell(record: Record) -> Cell:
    """Return the record's cell if this code, these data and these weights are what was measured.

    Raises BadInput that names everything that has changed and where the old code is to be had.
    """
    changed = list(_changes(record.cell))
    if changed:
        commit = record.provenance.commit
        where = f"git checkout {commit[:12]} has the code that measured it" if commit != UNKNOWN else ""
        raise BadInput(
            f"{record.cell.label()} cannot be repeated here: {'; '.join(changed)}" + (f"; {where}" if where else "")
        )
    return record.cell


def _changes(cell: Cell) -> Iterator[str]:
    """Yield what is another thing today than when the cell was measured."""
    task = registry.task(cell.task, cell.edition)
    if task.data_version != cell.data:
        yield f'the data are "{brief(task.data_version)}" now, and were "{brief(cell.data)}"'
    card = task.models().get(cell.model)
    if card is None:
        yield str(UnknownName(f"model of {cell.task}/{cell.edition}", cell.model, task.models()))
    elif card.checkpoint != cell.checkpoint:
        yield f"{cell.model} has another checkpoint now"
    if source_hash(registry.method(cell.method)) != cell.source:
        yield f"the source of method {cell.method} has changed"


@dataclass(frozen=True)
class Verdict:
    """What measuring again showed."""

    equal: bool
    lines: tuple[str, ...]


def compare(old: Record, new: Record) -> Verdict:
    """Return whether two measurements of one cell agree to the last bit, and what a person should read about it."""
    found, around = differences(old, new), environment_changes(old, new)
    enforced = "" if new.provenance.deterministic else "; deterministic kernels were not enforced"
    if not found:
        where = "in another environment" if around else "in the same environment"
        said = f"reproduced to the last bit, {where}: {_scores(new)}{enforced}"
        return Verdict(True, (said, *around))
    shown = [*found[:LISTED], *([f"and {len(found) - LISTED} more"] if len(found) > LISTED else [])]
    why = "the environments differ" if around else "the environments are the same"
    said = f"not reproduced: {_scores(old)} then, {_scores(new)} now; {why}{enforced}"
    return Verdict(False, (said, *shown, *around))


def _scores(record: Record) -> str:
    if record.failure is not None:
        return f"{record.failure.headline} ({brief(record.failure.message)})"
    return ", ".join(f"{name} {value:.4f}" for name, value in record.scores.items())


def environment_changes(old: Record, new: Record) -> list[str]:
    """Return the versions and devices that differ between two measurements, one sentence each."""
    was, now = old.provenance, new.provenance
    found = [
        f"{name} {was.versions.get(name, 'absent')} then, {now.versions.get(name, 'absent')} now"
        for name in sorted({*was.versions, *now.versions})
        if was.versions.get(name, "absent") != now.versions.get(name, "absent")
    ]
    if was.device != now.device:
        found.append(f"{was.device} then, {now.device} now")
    if was.threads != now.threads:
        found.append(f"{was.threads} threads then, {now.threads} now")
    return found


def differences(old: Record, new: Record) -> list[str]:
    """Return where two results of one cell differ, as "place: old, new"; empty where they are equal to the last bit."""
    return [
        f"{place}: {_text(was)} then, {_text(now)} now"
        for place, was, now in _leaves("", old.result(), new.result())
        if not place.startswith("gate.evidence")  # where it was measured, not what
    ]


def _leaves(place: str, old: JsonValue, new: JsonValue) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    """Yield the innermost values that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _leaves(f"{place}.{name}".lstrip("."), old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from _leaves(f"{place}[{index}]", was, now)
    elif old != new:
        yield place, old, new


def _text(value: JsonValue) -> str:
    return brief(json.dumps(value, sort_keys=True), 60)
