"""Several results folders read as one: the newest record of every cell counts, and where each lies is not forgotten.

    results/          committed: every user of the clone has it
    results-local/    here: measured on this machine

One folder alone says nothing of where its records lie.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from vitptq.bench.errors import Missing
from vitptq.bench.results.record import EvidenceRef, Record
from vitptq.bench.results.store import Store

Origin = Literal["committed", "here"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A record with where it lies."""

    record: Record
    origin: Origin
    store: Store


@dataclass(frozen=True)
class Origins:
    """Where the records of a board lie, if they are of several folders."""

    of: Mapping[str, Origin] = field(default_factory=dict)
    """By record id; empty for a single folder."""
    repeats: Mapping[str, tuple[Placed, ...]] = field(default_factory=dict)
    """By record id the older records of the same cell, newest first: shown beside it, and in no mean."""


NO_ORIGINS = Origins()


class Folders:
    """What lies in one or several results folders."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.stores = tuple(Store(root) for root in dict.fromkeys(roots))
        self.origins = Origins()
        self._store_of: dict[str, Store] = {}

    def require(self) -> None:
        """Raise where no folder has a record; one of several may be empty, or not there yet."""
        if len(self.stores) == 1:
            self.stores[0].require()
        if not self._filled():
            named = ", ".join(str(store.root) for store in self.stores)
            raise Missing(f"none of the results folders {named} holds a record; measure with vitptq run")

    def all(self) -> tuple[list[Record], list[str]]:
        """Return the newest readable record of every cell, ordered by id, and a sentence for each unreadable one."""
        filled = self._filled()
        found: dict[str, list[Placed]] = {}
        problems = []
        for store in filled:
            records, unreadable = store.all()
            problems += unreadable
            committed = _committed(store) if len(filled) > 1 else frozenset()
            for record in records:
                origin: Origin = "committed" if record.id in committed else "here"
                found.setdefault(record.id, []).append(Placed(record, origin, store))
        newest = {cell: sorted(placed, key=_age, reverse=True) for cell, placed in sorted(found.items())}
        self._store_of = {cell: placed[0].store for cell, placed in newest.items()}
        if len(filled) > 1:
            self.origins = Origins(
                {cell: placed[0].origin for cell, placed in newest.items()},
                {cell: others for cell, placed in newest.items() if (others := _others(placed))},
            )
        return [placed[0].record for placed in newest.values()], problems

    def store_of(self, record: Record) -> Store:
        """Return the folder that a record on the board lies in."""
        return self._store_of.get(record.id, self.stores[0])

    def evidence(self, record: Record, ref: EvidenceRef) -> dict[str, NDArray[Any]]:
        """Read a record's evidence, or another file of it, from where the record lies."""
        return self.store_of(record).evidence(ref)

    def _filled(self) -> list[Store]:
        return [store for store in self.stores if store.filled()]


def _age(placed: Placed) -> tuple[str, bool]:
    """Sort by when a record was finished; of two copies of one record the committed one is taken."""
    return placed.record.provenance.finished, placed.origin == "committed"


def _others(placed: Sequence[Placed]) -> tuple[Placed, ...]:
    """Return the older records of a cell, without copies of the newest."""
    return tuple(other for other in placed[1:] if other.record != placed[0].record)


def _committed(store: Store) -> frozenset[str]:
    """Return the ids of the records that the last commit of their clone holds; none outside a clone."""
    command = ["git", "ls-tree", "-z", "--name-only", "HEAD", "./"]
    try:
        listed = subprocess.run(command, cwd=store.records_dir, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return frozenset()
    return frozenset(_ids(listed.split("\0")))


def _ids(names: Iterable[str]) -> Iterable[str]:
    return (Path(name).stem for name in names if name.endswith(".json"))
