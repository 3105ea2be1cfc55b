"""How much room a cell's record and evidence will take, judged by what the results folder holds; else by figures."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record
from vitptq.bench.run.time_estimate import PRIORS

ANY = ""
"""Every way of quantising but one: generating images leaves these beside the evidence."""
GENERATE = "generate"


class DiskEstimates:
    """Knows the median size of what measured cells left on disk; made once for any number of cells."""

    def __init__(self, records: Iterable[Record], evidence: Path, families: Mapping[str, str]) -> None:
        """Learn from the files in `evidence`; `families` tells which methods generate images."""
        self._families = families
        files: dict[str, int] = defaultdict(int)
        for file in evidence.glob("*.npz"):
            files[file.name.partition(".")[0]] += file.stat().st_size
        sizes: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for record in records:
            if record.id in files:
                sizes[self._key(record.cell)].append(files[record.id])
        self._medians = {key: statistics.median(found) for key, found in sizes.items()}

    def of(self, cell: Cell) -> float:
        """Return bytes for a cell; 0 where nothing is like it."""
        task, edition, family = key = self._key(cell)
        return self._medians.get(key, _priors().get(f"{task}/{edition}", {}).get(family, 0.0))

    def _key(self, cell: Cell) -> tuple[str, str, str]:
        family = GENERATE if self._families.get(cell.method) == GENERATE else ANY
        return (cell.task, cell.edition, family)


def size(count: float) -> str:
    """Return a number of bytes for people.

    >>> size(3.2e9), size(15_000)
    ('3.2 GB', '15.0 kB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@cache
def _priors() -> dict[str, dict[str, float]]:
    priors: dict[str, dict[str, float]] = json.loads(PRIORS.read_text(encoding="utf-8"))["bytes"]
    return priors
