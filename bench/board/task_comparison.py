"""The tasks of one edition side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table, more_bits_first


def task_comparisons(tables: Sequence[Table]) -> tuple[TaskComparison, ...]:
    """Return one comparison per edition in which several tasks were measured."""
    editions = dict.fromkeys(table.edition for table in tables)
    found = (TaskComparison(edition, tuple(t for t in tables if t.edition == edition)) for edition in editions)
    return tuple(c for c in found if len(c.tasks) > 1 and c.bits is not None)


@dataclass(frozen=True)
class TaskComparison:
    """The tasks of one edition side by side, at one bit spec: methods as lines, models as columns."""

    edition: str
    tables: tuple[Table, ...]

    @property
    def tasks(self) -> tuple[tuple[str, tuple[Table, ...]], ...]:
        """Return the models' tables by task."""
        names = dict.fromkeys(table.task for table in self.tables)
        return tuple((name, tuple(t for t in self.tables if t.task == name)) for name in names)

    @cached_property
    def bits(self) -> BitSpec | None:
        """Return the bit spec that most models have counted rows at; of several the one with the fewest bits.

        Specs of an own category do not count.
        """
        specs = [bits for table in self.tables for bits in {row.bits for row in table.quantised}]
        counted = [bits for bits in specs if not bits.own_category]
        return max(counted, key=lambda bits: (counted.count(bits), more_bits_first(bits)), default=None)

    @cached_property
    def lines(self) -> tuple[tuple[Row | None, ...], ...]:
        """Return a line per method: its comparable row of each table, the highest where it has several variants."""
        at = [[row for row in t.at(self.bits) if row.comparable] if self.bits else [] for t in self.tables]
        methods = sorted({(row.card.title.lower(), row.cell.method) for rows in at for row in rows})
        return tuple(
            tuple(next((row for row in rows if row.cell.method == method), None) for rows in at)
            for _, method in methods
        )

    def top_groups(self, line: tuple[Row | None, ...]) -> str:
        """Say in how many models a line's method is in the first tie group, of those in which it has a score."""
        there = [(table, row) for table, row in zip(self.tables, line, strict=True) if row is not None]
        first = sum(table.group(row) == "A" for table, row in there)
        missing = len(self.tables) - len(there)
        return f"{first} of {len(there)}" + (f", {missing} missing" if missing else "")

    def absence(self, table: Table, method: str) -> str:
        """Say why a method has no row in a table."""
        return table.absence(self.bits, method) if self.bits else "not run"
