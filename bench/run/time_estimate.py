"""How long a cell will take, judged by what was measured before."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from datetime import timedelta

from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record


def estimate(cell: Cell, records: Iterable[Record]) -> float | None:
    """Return seconds: the median of the records most like `cell`, or None where nothing is like it."""
    measured = [(r.cell, r.costs.total_s) for r in records if r.costs is not None]
    for keys in (
        ("task", "edition", "model", "method"),
        ("task", "edition", "method"),
        ("task", "edition", "model"),
        ("task", "edition"),
    ):
        alike = [seconds for other, seconds in measured if all(getattr(other, k) == getattr(cell, k) for k in keys)]
        if alike:
            return statistics.median(alike)
    return None


def clock(seconds: float | None) -> str:
    """Return a duration for people: "0:01:05", or "?" where it is unknown."""
    return "?" if seconds is None else str(timedelta(seconds=round(seconds)))
