"""A year of nights, made up: 200 cells that every night measures with other code, and the report of the last night.

    python -m tests.bench.nightly.year_of_nights FOLDER      writes the records, reports the last night, prints a table

The last night holds a planted regression (1.94 points lost, ten times slower), and one cell fails since day 360.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.record_factory import TOP1, make_cell, make_costs, make_provenance, make_record
from tests.bench.tiny_task import TinyTask
from vitptq.bench import registry
from vitptq.bench.nightly.night import Night
from vitptq.bench.nightly.report import Report
from vitptq.bench.results.cell import Cell, sha256
from vitptq.bench.results.history import History
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store

NIGHTS, CELLS = 365, 200
IMAGES = 3000
FAILS_FROM = 360
PLANTED, FAILING = 7, 11
"""Which of the cells becomes worse in the last night, and which fails."""
START = datetime(2025, 1, 1, 1, 30, tzinfo=UTC)


def write_year(root: Path, nights: int = NIGHTS, cells: int = CELLS) -> None:
    """Write the records of a year of nights, with evidence for the last two of them."""
    store = Store(root)
    for folder in (store.records_dir, store.evidence_dir):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(cells):
        plain = _record(store, 0, number, nights)
        text = plain.model_dump_json()
        for night in range(nights):
            cell = _cell(night, number)
            if night < nights - 2 and not _fails(night, number, nights):
                content = _moved(text, plain, cell, night)
            else:
                content = _record(store, night, number, nights).model_dump_json()
            (store.records_dir / f"{cell.id}.json").write_text(content)  # without a sync: it may be lost


def _moved(text: str, plain: Record, cell: Cell, night: int) -> str:
    """Return the JSON of the first night's record as another night's: far faster than making it anew."""
    seconds = random.Random(f"{night} {cell.id}").uniform(1.9, 2.1)
    origin = plain.provenance
    for old, new in (
        (plain.id, cell.id),
        (plain.cell.source, cell.source),
        (origin.commit, _commit(night)),
        (origin.started, _moment(night)),
        ('"quantise_s":2.0,', f'"quantise_s":{seconds},'),
    ):
        text = text.replace(old, new)
    return text


def report_last(root: Path, nights: int = NIGHTS) -> Report:
    """Return the report of the last night, as the command makes it."""
    history = History.read(root)
    night = Night(root)
    night.started = _moment(nights - 1)
    report = night.report("the last night", history, set(history.by_thing))
    night.finish(report)
    return report


def _fails(night: int, number: int, nights: int) -> bool:
    return number == FAILING and night >= min(FAILS_FROM, nights - 1)


def _record(store: Store, night: int, number: int, nights: int) -> Record:
    cell = _cell(night, number)
    worse = night == nights - 1 and number == PLANTED
    provenance = make_provenance(commit=_commit(night), started=_moment(night), finished=_moment(night))
    if _fails(night, number, nights):
        return make_record(cell, failure="raised", provenance=provenance)
    seconds = 20.0 if worse else 2.0
    costs = make_costs(cell).model_copy(update={"quantise_s": seconds, "total_s": seconds + 9})
    right = _right(number, worse)
    changes: dict[str, Any] = {"scores": {"top1": 100 * float(right.mean())}}
    if night >= nights - 2:
        evidence = {"predictions": right.astype(np.int16), "labels": np.ones(IMAGES, np.int16)}
        changes["evidence"] = store.add_evidence(cell.id, evidence)
    record = make_record(cell, costs=costs, provenance=provenance, metrics=(TOP1,), images=IMAGES)
    return record.model_copy(update=changes)


def _commit(night: int) -> str:
    return sha256(str(night).encode())[:40]


def _cell(night: int, number: int) -> Cell:
    bits = ("W8A8", "W6A6", "W4A4", "W3A3")[number % 4]
    common = {"task": TinyTask.name, "edition": TinyTask.edition, "data": TinyTask.data_version, "model": "vit"}
    return make_cell(**common, method=f"method-{number // 4}", bits=bits, source=sha256(str(night).encode()))


def _right(number: int, worse: bool) -> np.ndarray:
    """Return which images are right: the same ones every night, but for what the planted regression loses."""
    right = np.random.default_rng(number).random(IMAGES) < 0.8
    if worse:
        right[np.flatnonzero(right)[: round(0.0194 * IMAGES)]] = False
    return right


def _moment(night: int) -> str:
    return (START + timedelta(days=night)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rows(root: Path) -> Iterator[tuple[str, float, float]]:
    for what in ("the records are read for the first time", "the index is there"):
        start, spent = time.perf_counter(), time.process_time()
        report = report_last(root)
        yield what, time.perf_counter() - start, time.process_time() - spent
        assert report.first_line.startswith("WORSE score moved, time moved"), report.first_line
        assert report.failing[0].since_date == (START + timedelta(days=FAILS_FROM)).strftime("%Y-%m-%d")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    registry.add_file(Path(__file__).parent.parent / "tiny_task.py")
    if not (folder / "records").is_dir():
        write_year(folder)
    size = sum(path.stat().st_size for path in (folder / "records").iterdir())
    print(f"{NIGHTS} nights of {CELLS} cells, {size / 2**20:.0f} MiB of records")
    print(f"memory before: {_peak_mib():.0f} MiB")
    for what, seconds, processor in _rows(folder):
        print(f"{what}: {seconds:.1f} s, {processor:.1f} s of a core")
    print(f"peak of memory: {_peak_mib():.0f} MiB")
