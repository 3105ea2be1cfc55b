"""What a site tells of earlier states of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vitptq.bench.board.rows import Row
from vitptq.bench.results.history import Measured, thing
from vitptq.bench.website.history import RowHistory, row_history
from vitptq.bench.website.nights import NightPage


@dataclass(frozen=True, slots=True)
class Past:
    """The reports of nights, newest first, and every record by its thing, in the order of time."""

    nights: tuple[NightPage, ...] = ()
    measured: Mapping[str, Sequence[Measured]] = field(default_factory=dict)

    def of(self, row: Row) -> RowHistory | None:
        """Return the history of a row of the board; None where it was measured once."""
        return row_history(self.measured.get(thing(row.cell), ()))


NO_PAST = Past()
