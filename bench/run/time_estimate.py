"""How long a cell will take, judged by what was measured before; where nothing was, by figures that ship with it."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record

PRIORS = Path(__file__).with_name("priors.json")
FLOAT = "float"
_ALIKE = (
    ("task", "edition", "model", "method"),
    ("task", "edition", "model", "family"),
    ("task", "edition", "method"),
    ("task", "edition", "family"),
    ("task", "edition", "model"),
    ("task", "edition"),
)
"""What a measured cell must share with the one in question, the closest first."""


@dataclass(frozen=True)
class Estimate:
    """Seconds for one cell, and whether records of this folder speak, or the figures that ship with the project."""

    seconds: float
    learned: bool


class Estimates:
    """Knows the median time of the records by what they share with a cell; made once for any number of cells."""

    def __init__(self, records: Iterable[Record], families: Mapping[str, str]) -> None:
        """Learn from `records`; `families` tells which methods take their time in the same way."""
        self._families = families
        seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for record in records:
            if record.costs is not None:
                for key in self._keys(record.cell):
                    seconds[key].append(record.costs.total_s)
        self._medians = {key: statistics.median(values) for key, values in seconds.items()}

    def of(self, cell: Cell) -> Estimate | None:
        """Return the estimate for a cell, or None where nothing is like it."""
        for key in self._keys(cell):
            if key in self._medians:
                return Estimate(self._medians[key], learned=True)
        seconds = _priors().get(f"{cell.task}/{cell.edition}", {}).get(self._family(cell))
        return None if seconds is None else Estimate(seconds, learned=False)

    def _family(self, cell: Cell) -> str:
        return FLOAT if cell.is_float else self._families.get(cell.method, "")

    def _keys(self, cell: Cell) -> list[tuple[str, ...]]:
        values = {"family": self._family(cell)}
        return [(*alike, *(values.get(name) or str(getattr(cell, name, "")) for name in alike)) for alike in _ALIKE]


def clock(seconds: float | None) -> str:
    """Return a duration for people: "0:01:05", or "?" where it is unknown."""
    return "?" if seconds is None else str(timedelta(seconds=round(seconds)))


@cache
def _priors() -> dict[str, dict[str, float]]:
    priors: dict[str, dict[str, float]] = json.loads(PRIORS.read_text())["seconds"]
    return priors
