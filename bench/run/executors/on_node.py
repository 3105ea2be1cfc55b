"""One cell on one node of a cluster: the same worker process as on one machine, kept from cell to cell.

Ray's own process only watches over it, so that a hung, crashing or oversized cell is told apart from a lost node.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vitptq.bench.errors import VitptqError
from vitptq.bench.files import remove, write_atomically
from vitptq.bench.results.cell import Cell, sha256
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store
from vitptq.bench.run.executors.local import LocalProcesses
from vitptq.bench.run.leftovers import TemporaryFolder
from vitptq.bench.run.plan import Plan
from vitptq.bench.source_hash import code_hash

GPUS_SEEN = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Errand:
    """All that a node is told of a cell."""

    cell: Cell
    plan: Plan
    mark: str
    """Name of a file in the results folder: a node that finds it there sees the same folder."""
    code: str
    """Hash of the code that planned the cell."""
    known: tuple[Record, ...] = ()
    """The cell's earlier record and that of its float cell, for a node that does not see the results folder."""
    adapters: Mapping[str, bytes] = field(default_factory=dict)
    """What the adapter files hold, by path."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a node sends back."""

    measured: bool = False
    """False where another process is at the cell."""
    records: tuple[Record, ...] = ()
    """For the results folder: the cell's, and its float cell's where that had none; empty where the node sees it."""
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    """Files for the results folder, by name."""
    problem: str = ""
    """Why no cell can be measured on this node."""


class Desk:
    """A process of a node: its worker, and where it keeps what the results folder, out of sight, is to get."""

    def __init__(self) -> None:
        self._own = TemporaryFolder()
        self._workers: LocalProcesses | None = None
        self._held: tuple[Plan, str] | None = None

    def run(self, errand: Errand) -> Answer:
        """Measure the errand's cell."""
        if errand.code != code_hash():
            return _problem("other code of vitptq than the machine that started the run; install the same on both")
        os.environ.update(errand.environment)
        shared = (errand.plan.results / errand.mark).is_file()
        results = errand.plan.results if shared else self._own.path
        plan = replace(errand.plan, results=results, workers=1, adapters=self._adapters(errand.adapters))
        if not shared:
            _put_down(errand.known, Store(results))
        try:
            busy = self._workers_for(plan).run_wave([errand.cell], lambda cell, record: None, lambda steps: None)
        except VitptqError as error:
            self._end_worker()
            return _problem(f"this problem: {error}")
        return Answer(not busy) if shared else _taken(errand.known, Store(results))

    def _workers_for(self, plan: Plan) -> LocalProcesses:
        """Return the worker of before, or a new one where it was told something else, or has another GPU."""
        held = (plan, os.environ.get(GPUS_SEEN, ""))
        if self._workers is None or held != self._held:
            self._end_worker()
            self._workers, self._held = LocalProcesses(plan, 1), held
        return self._workers

    def _adapters(self, files: Mapping[str, bytes]) -> tuple[Path, ...]:
        """Return where the adapter files are on this node; those that it does not see are written down."""
        places = []
        for name, content in files.items():
            place = Path(name)
            if not place.is_file() or place.read_bytes() != content:
                place = self._own.path / "adapters" / sha256(content)[:12] / place.name
                write_atomically(place, content)
            places.append(place)
        return tuple(places)

    def _end_worker(self) -> None:
        if self._workers is not None:
            self._workers.stop()
        self._workers = None

    def close(self) -> None:
        """End the worker and clear up."""
        self._end_worker()
        self._own.remove()


_desk: Desk | None = None
"""The one desk of this process: Ray calls `run_errand` per cell, and hands nothing across."""


def run_errand(errand: Errand) -> Answer:
    """Measure one cell in this process of a node."""
    global _desk
    _desk = _desk or Desk()
    return _desk.run(errand)


def _problem(what: str) -> Answer:
    return Answer(problem=f"node {socket.gethostname()} has {what}")


def _put_down(records: tuple[Record, ...], store: Store) -> None:
    """Put records where the worker looks for them."""
    for record in records:
        store.add(record)


def _taken(known: tuple[Record, ...], store: Store) -> Answer:
    """Return what was measured, and leave the folder as empty as it was."""
    evidence = {path.name: path.read_bytes() for path in sorted(store.evidence_dir.glob("*.npz"))}
    records = tuple(record for record in store.records() if record not in known)
    for path in (*store.records_dir.iterdir(), *store.evidence_dir.glob("*")):
        remove(path)
    return Answer(True, records, evidence)
