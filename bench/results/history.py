"""What every record of a results folder says, in a line each, so that years of them are read in seconds.

    results/records/<id>.json                          the current records
    results/earlier/<environment>/records/<id>.json    what another environment measured of the same cells
    results/.cache/history.json                        these lines; may be deleted at any time

A line is read again when its file's time or size differs. The schema is checked where a record is read whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from vitptq.bench.errors import BadInput
from vitptq.bench.files import shown, write_atomically
from vitptq.bench.results.cell import FP32, Cell, canonical_json
from vitptq.bench.results.record import Record
from vitptq.bench.results.record_file import read_record
from vitptq.bench.results.store import Store

EARLIER = "earlier"
ASKED = ("task", "edition", "model", "method", "parameters", "bits", "track", "calibration_size")
"""What stays the same when code, data or checkpoint change, and is no matter of the seed."""


def thing(cell: Cell) -> str:
    """Return what was asked for, whatever code, data, checkpoint and seed: what has a history."""
    return _thing(cell.model_dump(mode="json", include={*ASKED, "precision"}))


def _thing(cell: Mapping[str, Any]) -> str:
    return canonical_json({name: cell[name] for name in ASKED} | {"precision": cell.get("precision", FP32)})


class Measured(NamedTuple):
    """One record, in a line."""

    thing: str
    seed: int
    id: str
    folder: str
    """Below `earlier`; empty where it is the current record of its cell."""
    file_time: int
    file_size: int
    commit: str
    dirty: bool | None
    environment: str
    host: str
    device: str
    threads: int
    started: str
    finished: str
    first_failed: str
    """When the first of its attempts failed; empty where none did."""
    failure: str
    """Why it has no score; empty where it has one."""
    counts: bool
    metric: str
    """Title of the score."""
    score: float | None
    quantise_s: float | None
    peak_mib: float | None

    @property
    def machine(self) -> tuple[str, str, int]:
        """Name what times depend on."""
        return self.host, self.device, self.threads

    @property
    def version(self) -> str:
        """Name the commit for people."""
        return self.commit[:7] + (" with changes" if self.dirty else "")


Progress = Callable[[Sequence[str]], Iterable[str]]
"""Shows the progress through files."""


@dataclass(frozen=True)
class History:
    """Every record of a results folder, those of earlier environments included, in the order of their time."""

    root: Path
    measured: tuple[Measured, ...]
    problems: tuple[str, ...]
    """One sentence for each record that cannot be read."""

    @classmethod
    def read(cls, root: Path, progress: Progress = iter) -> History:
        """Read a results folder: from its index what is known, from the records themselves what is new."""
        return _read(root, _indexed(root), progress)

    def refreshed(self, progress: Progress = iter) -> History:
        """Return the history as it is now; only files that are new or changed are read."""
        return _read(self.root, self.measured, progress)

    @cached_property
    def by_thing(self) -> dict[str, list[Measured]]:
        """Return what was measured, by what was asked for."""
        found: dict[str, list[Measured]] = {}
        for each in self.measured:
            found.setdefault(each.thing, []).append(each)
        return found

    @property
    def current(self) -> dict[str, Measured]:
        """Return the records that were not put aside, by the id of their cell."""
        return {each.id: each for each in self.measured if not each.folder}

    def store(self, measured: Measured) -> Store:
        """Return the folder in which a record and its evidence lie."""
        return Store(self.root / EARLIER / measured.folder if measured.folder else self.root)

    def record(self, measured: Measured) -> Record:
        """Return a record as a whole; BadInput where it cannot be read."""
        return read_record(self.store(measured).records_dir / f"{measured.id}.json")


def newest(measured: Iterable[Measured]) -> list[Measured]:
    """Return the last of each thing and seed; `measured` is in the order of time."""
    return list({(each.thing, each.seed): each for each in measured}.values())


def _read(root: Path, known: Iterable[Measured], progress: Progress) -> History:
    kept = {(each.folder, each.id, each.file_time, each.file_size): each for each in known}
    found, waiting = [], {}
    for folder, entry in _files(root):
        state = entry.stat()
        if not state.st_size:  # only holds the name of a record that is being written
            continue
        key = (folder, entry.name.removesuffix(".json"), state.st_mtime_ns, state.st_size)
        if key in kept:
            found.append(kept[key])
        else:
            waiting[entry.path] = key
    problems = []
    for path in progress(list(waiting)):
        try:
            found.append(line_of(from_json(Path(path).read_bytes(), allow_inf_nan=False), *waiting[path]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            problems.append(_problem(Path(path)))
    if len(found) != len(kept) or waiting:
        _index(root, found)
    return History(root, tuple(sorted(found, key=lambda each: (each.finished, each.id))), tuple(problems))


def _files(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the records' files, each with its folder below `earlier`."""
    earlier = root / EARLIER
    aside = sorted(path.name for path in earlier.iterdir() if path.is_dir()) if earlier.is_dir() else []
    for folder, records in [("", root / "records"), *((name, earlier / name / "records") for name in aside)]:
        if records.is_dir():
            with os.scandir(records) as entries:
                files = [e for e in entries if e.name.endswith(".json") and e.name[0] != "." and e.is_file()]
            yield from ((folder, entry) for entry in files)


def line_of(raw: Mapping[str, Any], folder: str, identity: str, file_time: int, file_size: int) -> Measured:
    """Return the line of a record's JSON; any error where it is no record of the cell `identity`."""
    cell, origin, costs, failure = raw["cell"], raw["provenance"], raw.get("costs"), raw.get("failure")
    if raw["id"] != identity:
        raise ValueError("another cell's name")
    metric, title = _ranking(raw)
    attempts = [*raw.get("earlier", ()), *([failure] if failure else [])]
    return Measured(
        thing=_thing(cell), seed=int(cell["seed"]), id=identity, folder=folder, file_time=file_time,
        file_size=file_size, commit=str(origin["commit"]), dirty=origin["dirty"],
        environment=str(origin["environment"]), host=str(origin["host"]), device=str(origin["device"]),
        threads=int(origin["threads"]), started=str(origin["started"]), finished=str(origin["finished"]),
        first_failed=str(attempts[0].get("started") or origin["started"]) if attempts else "",
        failure=f"{failure['kind']}: {failure['message']}"[:200] if failure else "",
        counts=raw["status"] == "ok" and raw["gate"]["passed"] is True,
        metric=title, score=_number(raw.get("scores", {}).get(metric)),
        quantise_s=_number(costs["quantise_s"]) if costs else None, peak_mib=_peak(costs) if costs else None,
    )  # fmt: skip


def _ranking(raw: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and title of the score that ranks; an older record does not say which that is."""
    metrics = raw.get("metrics") or [{"name": name, "title": name} for name in list(raw.get("scores", {}))[:1]]
    chosen = next((metric for metric in metrics if metric.get("ranks")), metrics[0] if metrics else {})
    return str(chosen.get("name", "")), str(chosen.get("title", ""))


def _peak(costs: Mapping[str, Any]) -> float | None:
    device = costs.get("peak_device_mib")
    return _number(costs["peak_host_mib"] if device is None else device)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _problem(path: Path) -> str:
    """Say what is wrong with a record's file."""
    try:
        read_record(path)
    except BadInput as error:
        return str(error)
    return f"record {shown(path)} changed while it was read"


def _place(root: Path) -> Path:
    return root / ".cache" / "history.json"


def _indexed(root: Path) -> list[Measured]:
    """Return what the index holds; nothing where it is of another version, or no index."""
    try:
        kept = from_json(_place(root).read_bytes())
        if kept["fields"] != list(Measured._fields):
            return []
        return [Measured(name, *row) for name, rows in kept["things"].items() for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _index(root: Path, measured: Iterable[Measured]) -> None:
    things: dict[str, list[tuple[Any, ...]]] = {}
    for each in measured:
        things.setdefault(each.thing, []).append(each[1:])
    try:
        write_atomically(_place(root), to_json({"fields": Measured._fields, "things": things}))
    except BadInput:  # a folder that cannot be written to costs time only
        return
