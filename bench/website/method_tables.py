"""What a method reported about a run, as tables that its page shows: `note_details` with rows, and a text above them.

A value is shown if it is a list of mappings, or a mapping with such a list under "rows" and perhaps a "text". Mappings
inside a row become columns of their own. Everything else stays in the record alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from vitptq.bench.results.record import Record

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class ShownTable:
    """One table of a run's page."""

    name: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def method_tables(record: Record) -> tuple[ShownTable, ...]:
    """Return the tables that the method reported, in the order of their names."""
    details = record.details.get("method")
    found = details if isinstance(details, Mapping) else {}
    return tuple(table for name, value in sorted(found.items()) if (table := _table(name, value)) is not None)


def _table(name: str, value: JsonValue) -> ShownTable | None:
    text = ""
    if isinstance(value, Mapping):
        text, value = str(value.get("text", "")), value.get("rows")
    if not isinstance(value, list) or not value:
        return None
    flat = [dict(_cells(row)) for row in value if isinstance(row, Mapping)]
    columns = tuple(dict.fromkeys(column for row in flat for column in row))
    if len(flat) < len(value) or not columns:
        return None
    return ShownTable(name, text, columns, tuple(tuple(_shown(row.get(column)) for column in columns) for row in flat))


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
