"""Which cells a night measures, the most valuable first, and how many of them fit into its budget."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vitptq.bench.errors import BadInput, brief
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.history import Measured, thing

Why = Literal["missing", "stale", "another draw"]
ORDER: tuple[Why, ...] = ("missing", "stale", "another draw")
"""What a night does first: what nobody has measured, then what was measured with older code, then further draws."""
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


@dataclass(frozen=True)
class Due:
    """A cell that a night has to measure, and why."""

    cell: Cell
    why: Why
    seconds: float | None = None
    """What it is expected to take."""


def due(
    cells: Sequence[Cell],
    current: Mapping[str, Measured],
    known: Collection[str],
    environment: str,
    seconds: Mapping[str, float],
    published: Collection[str] = (),
) -> list[Due]:
    """Return the cells without a record of this code and environment, in the order of their value.

    `current` has the records by the id of their cell, `known` the things that were ever measured. `environment` is that
    of this machine (`provenance.environment`): a record of the same cell from another version of torch is stale. Cells
    in `published` have a number in some paper, and come first among their equals.
    """
    first: dict[str, int] = {}
    things = [thing(cell) for cell in cells]
    for cell, asked in zip(cells, things, strict=True):
        first[asked] = min(cell.seed, first.get(asked, cell.seed))
    found = []
    for cell, asked in zip(cells, things, strict=True):
        measured = current.get(cell.id)
        if measured is not None and measured.environment == environment:
            continue
        why: Why = "stale" if asked in known else "missing" if cell.seed == first[asked] else "another draw"
        found.append(Due(cell, why, seconds.get(cell.id)))
    return sorted(found, key=lambda each: (*_rank(each, published), each.seconds or 0.0, each.cell.id))


def _rank(each: Due, published: Collection[str]) -> tuple[int, bool]:
    return ORDER.index(each.why), each.cell.id not in published


def within(found: Sequence[Due], budget_s: float, workers: int = 1) -> list[Due]:
    """Return the cells that fit into the budget as far as their times are known: at least one, so that nights go on."""
    taken: list[Due] = []
    spent = 0.0
    for each in found:
        if taken and spent + (each.seconds or 0.0) > budget_s * workers:
            continue
        spent += each.seconds or 0.0
        taken.append(each)
    return taken


def parse_budget(text: str) -> float:
    """Return seconds.

    >>> parse_budget("6h"), parse_budget("1h30m"), parse_budget("90s")
    (21600.0, 5400.0, 90.0)
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    if parts is None or not any(parts.groups()):
        raise BadInput(f'budget "{brief(text)}" is no time; write for example 6h, 90m or 1h30m')
    return sum(float(part) * unit for part, unit in zip(parts.groups(), _UNITS.values(), strict=True) if part)
