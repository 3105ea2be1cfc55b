"""What a site tells of earlier states of its results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitptq.bench.board.rows import Row
from vitptq.bench.results.history import History, Measured, thing
from vitptq.bench.website.history import RowHistory, row_history
from vitptq.bench.website.nights import NightPage, read_nights


@dataclass(frozen=True, slots=True)
class Past:
    """The reports of nights, newest first, and every record by its thing, in the order of time."""

    nights: tuple[NightPage, ...] = ()
    measured: Mapping[str, Sequence[Measured]] = field(default_factory=dict)

    def of(self, row: Row) -> RowHistory | None:
        """Return the history of a row of the board; None where it was measured once."""
        return row_history(self.measured.get(thing(row.cell), ()))


NO_PAST = Past()


def read_past(folders: Iterable[Path]) -> tuple[Past, list[str]]:
    """Return what results folders tell of earlier states, and a sentence for each report that cannot be read."""
    nights: dict[str, NightPage] = {}
    measured: dict[tuple[str, str], Measured] = {}
    problems: list[str] = []
    for folder in folders:
        found, unread = read_nights(folder)
        nights = {night.name: night for night in found} | nights
        measured = {(each.id, each.finished): each for each in History.read(folder).measured} | measured
        problems += unread
    by_thing: dict[str, list[Measured]] = {}
    for each in sorted(measured.values(), key=lambda each: (each.finished, each.id)):
        by_thing.setdefault(each.thing, []).append(each)
    return Past(tuple(nights[name] for name in sorted(nights, reverse=True)), by_thing), problems
