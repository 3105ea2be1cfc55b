"""What a method told about every layer of a model, at all specs beside each other: a bar and a number in each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from vitptq.bench.board.rows import Row
from vitptq.bench.contracts.reporting import MethodTable
from vitptq.bench.website.method_tables import NOTHING, bars

Cell = tuple[str, float]
"""The value as text, and the length of its bar in percent."""


@dataclass(frozen=True, slots=True)
class BarMatrix:
    """One model's layers (lines) at several specs (columns)."""

    model: str
    name: str
    text: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def bar_matrices(rows: Sequence[Row]) -> tuple[BarMatrix, ...]:
    """Return the tables that ask for bars, of the first counted seed of each row, joined by model and name."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        for name, table in sorted(_tables(row).items()):
            if table.bars is not None:
                found.setdefault((row.cell.model, name), []).append(row)
    return tuple(_matrix(model, name, group) for (model, name), group in sorted(found.items()))


def _tables(row: Row) -> dict[str, MethodTable]:
    return row.counted[0].details.method.tables if row.counted else {}


def _matrix(model: str, name: str, rows: Sequence[Row]) -> BarMatrix:
    cells = [_column(row, name) for row in rows]
    layers = dict.fromkeys(layer for column in cells for layer in column)
    text = rows[0].counted[0].details.method.tables[name].text
    columns = tuple(f"{row.bits}{f', {row.variant}' if row.variant else ''}" for row in rows)
    lines = tuple((layer, tuple(column.get(layer) for column in cells)) for layer in layers)
    return BarMatrix(model, name, text, columns, lines)


def _column(row: Row, name: str) -> dict[str, Cell]:
    """Return a row's cells by layer: what the first column of the table names."""
    table = row.counted[0].details.method.tables[name]
    assert table.bars is not None
    value = table.bars[0]
    return {
        str(next(iter(line.values()), "")): (_text(line.get(value)), length)
        for line, length in zip(table.rows, bars(table), strict=True)
    }


def _text(value: JsonValue) -> str:
    return NOTHING if value is None else str(value)
