"""The tables that a method reported about a run with `note_table`, as its page shows them.

Mappings inside a row become columns of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from vitptq.bench.contracts.reporting import MethodTable
from vitptq.bench.results.record import Record

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class ShownTable:
    """One table of a run's page."""

    name: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[float, ...] = ()
    """The share in percent that each row draws; empty where the table asks for no bars."""


def method_tables(record: Record) -> tuple[ShownTable, ...]:
    """Return the tables that the method reported, in the order of their names."""
    return tuple(_shown_table(name, table) for name, table in sorted(record.details.method.tables.items()))


def _shown_table(name: str, table: MethodTable) -> ShownTable:
    flat = [dict(_cells(row)) for row in table.rows]
    columns = tuple(dict.fromkeys(column for row in flat for column in row))
    rows = tuple(tuple(_shown(row.get(column)) for column in columns) for row in flat)
    return ShownTable(name, table.text, columns, rows, bars(table))


def bars(table: MethodTable) -> tuple[float, ...]:
    """Return the length of each row's bar in percent: all of it where the value is None, or above the largest."""
    if table.bars is None:
        return ()
    value, most = table.bars
    return tuple(_share(row.get(value), row.get(most)) for row in table.rows)


def _share(value: JsonValue, most: JsonValue) -> float:
    if not isinstance(value, int | float) or not isinstance(most, int | float) or most <= 0:
        return 100.0
    return min(100.0, max(0.0, 100 * value / most))


def _cells(row: Mapping[str, JsonValue], before: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _cells(value, f"{before}{name} ")
        else:
            yield f"{before}{name}", value


def _shown(value: JsonValue) -> str:
    """Return a value as text.

    >>> _shown(0.000012345), _shown(12), _shown(True), _shown(None)
    ('1.23e-05', '12', 'yes', '–')
    """
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
