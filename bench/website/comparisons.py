"""Paired differences of every method to every other, by model and bit width, as the pages of comparisons show them.

The verdicts are those behind the ranks: all pairs of a model and bit width are one family, corrected together. Rows
with different numbers of calibration images stand beside each other only where their methods have no common number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.paired_difference import Difference
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table


@dataclass(frozen=True, slots=True)
class Cell:
    """One row less another, in points, with the interval and what the tests allow to say."""

    points: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of one method beside a row of another, on one model, by bit width."""

    table: Table
    ours: str
    theirs: str
    other: str
    """The other method."""
    cells: dict[BitSpec, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One method beside all others."""

    method: str
    lines: tuple[Line, ...]

    @cached_property
    def counts(self) -> Mapping[str, Counter[str]]:
        """Return how often each verdict was found, by the other method."""
        found: dict[str, Counter[str]] = {}
        for line in self.lines:
            found.setdefault(line.other, Counter()).update(cell.verdict for cell in line.cells.values())
        return found


def comparisons(tables: Iterable[Table]) -> dict[str, Comparison]:
    """Return, for each method that was compared with another, its differences; models and others by name."""
    found: dict[str, dict[tuple[str, ...], Line]] = {}
    for table in tables:
        for bits in table.bit_specs:
            for one, two, difference, verdict in _pairs(table, bits):
                _note(found, table, one, two, difference, verdict)
    return {
        method: Comparison(method, tuple(sorted(lines.values(), key=_reading_order)))
        for method, lines in sorted(found.items())
    }


def _pairs(table: Table, bits: BitSpec) -> Iterator[tuple[Row, Row, Difference, str]]:
    """Yield the pairs of rows of different methods that were compared."""
    groups = table.groups(bits)
    rows = {row.id: row for row in table.at(bits)}
    sizes: dict[str, set[int]] = {}
    for row in rows.values():
        sizes.setdefault(row.cell.method, set()).add(row.cell.calibration_size)
    for (one, two), difference in groups.differences.items():
        ours, theirs = rows[one], rows[two]
        common = sizes[ours.cell.method] & sizes[theirs.cell.method]
        alike = ours.cell.calibration_size == theirs.cell.calibration_size
        if ours.cell.method != theirs.cell.method and (alike or not common):
            yield ours, theirs, difference, groups.verdict(one, two)


_OPPOSITE = {"better": "worse", "worse": "better"}


def _note(
    found: dict[str, dict[tuple[str, ...], Line]], table: Table, one: Row, two: Row, apart: Difference, verdict: str
) -> None:
    there = Cell(apart.points, apart.low, apart.high, verdict)
    back = Cell(-apart.points, -apart.high, -apart.low, _OPPOSITE.get(verdict, verdict))
    for ours, theirs, cell in ((one, two, there), (two, one, back)):
        key = table.id, ours.label, theirs.cell.method, theirs.label
        line = Line(table, ours.label, theirs.label, theirs.cell.method)
        found.setdefault(ours.cell.method, {}).setdefault(key, line).cells[one.bits] = cell


def _reading_order(line: Line) -> tuple[str, ...]:
    table = line.table
    return table.model.lower(), table.model, line.theirs.lower(), line.theirs, line.ours
