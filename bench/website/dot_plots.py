"""Geometry of the dot plots, computed at build time: the score of every method, one panel per bit width.

A method has a line of its own, with its name beside it, so names never meet however many methods there are. Higher
scores are higher; those that paired tests leave together at the top share a band. The drawing itself is a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.website.charts import place, score_range, shorten, steps

WIDTH = 372.0
LEFT, RIGHT = 158.0, 346.0
TOP, BOTTOM = 34.0, 22.0
LINE = 17.0
LABEL_CHARS = 20
STRIP_WIDTH, STRIP_HEIGHT = 340.0, 190.0
STRIP_LEFT, STRIP_TOP, STRIP_BASE = 34.0, 10.0, 162.0


@dataclass(frozen=True, slots=True)
class Dot:
    """One score: its line, its whisker, and the letter of its tie group, empty where it was not compared."""

    row: Row
    label: str
    x: float
    low: float
    high: float
    y: float
    group: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One bit width, in SVG units."""

    id: str
    title: str
    description: str
    height: float
    dots: tuple[Dot, ...]
    bands: tuple[tuple[float, float], ...]
    """Top and height of what is behind the methods of group A: one band, or several where others stand between."""
    ticks: tuple[tuple[float, str], ...]
    float_x: float | None


@dataclass(frozen=True, slots=True)
class Strip:
    """A small chart of a model: a column of dots per bit width, with the first tie group set apart."""

    id: str
    description: str
    columns: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    first: tuple[tuple[float, float], ...]
    """Centres of the dots of the first tie group, or of the highest score where nothing could be compared."""
    others: tuple[tuple[float, float], ...]
    float_y: float | None


@dataclass(frozen=True, slots=True)
class _Axis:
    """A range of scores along a line of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, score: float) -> float:
        return place(score, self.low, self.high, self.start, self.end)


def panels(table: Table) -> tuple[Panel, ...]:
    """Return a panel for each bit width that dense rows count at, more bits first."""
    return tuple(_panel(table, bits, rows) for bits, rows in _drawable(table))


def strip(table: Table) -> Strip | None:
    """Return the small chart of all bit widths, None where nothing counts."""
    columns = _drawable(table)
    if not columns:
        return None
    step, low, high = score_range([*(row for _, rows in columns for row in rows), *table.floats])
    axis = _Axis(low, high, STRIP_BASE, STRIP_TOP)
    room = (STRIP_WIDTH - STRIP_LEFT - 12) / len(columns)
    places = [STRIP_LEFT + room * (i + 0.5) for i in range(len(columns))]
    first: list[tuple[float, float]] = []
    others: list[tuple[float, float]] = []
    for x, (bits, rows) in zip(places, columns, strict=True):
        leading = {row.id for row in table.winners(bits) or rows[:1]}
        for row in rows:
            (first if row.id in leading else others).append((x, axis.at(row.score or 0.0)))
    reference = table.floats[0].score if table.floats else None
    return Strip(
        id=f"strip-{table.id[:8]}",
        description=_summary(table, columns),
        columns=tuple((x, str(bits)) for x, (bits, _) in zip(places, columns, strict=True)),
        ticks=tuple((axis.at(value), f"{value:g}") for value in steps(low, high, step)),
        first=tuple(first),
        others=tuple(others),
        float_y=None if reference is None else axis.at(reference),
    )


def _drawable(table: Table) -> list[tuple[BitSpec, list[Row]]]:
    widths = [(bits, [row for row in table.at(bits) if row.score is not None]) for bits in table.bit_specs]
    return [(bits, rows) for bits, rows in widths if rows and not bits.own_category]


def _panel(table: Table, bits: BitSpec, rows: Sequence[Row]) -> Panel:
    step, low, high = score_range([*rows, *table.floats])
    axis = _Axis(low, high, LEFT, RIGHT)
    dots = tuple(_dot(table, row, axis, TOP + LINE * (place + 0.5)) for place, row in enumerate(rows))
    reference = table.floats[0].score if table.floats else None
    return Panel(
        id=f"dots-{table.id[:8]}-{bits}".replace("+", "-").lower(),
        title=table.bits_text(bits),
        description=f"{table.metric.title} in percent, higher first. " + "; ".join(map(_said, dots)) + ".",
        height=TOP + LINE * len(rows) + BOTTOM,
        dots=dots,
        bands=tuple(_bands(dots)),
        ticks=tuple((axis.at(value), f"{value:g}") for value in steps(low, high, step)),
        float_x=None if reference is None else axis.at(reference),
    )


def _dot(table: Table, row: Row, axis: _Axis, y: float) -> Dot:
    score, interval = row.score or 0.0, row.interval
    low, high = (interval.low, interval.high) if interval else (score, score)
    group = table.group(row) if row.comparable else ""
    return Dot(row, shorten(row.label, LABEL_CHARS), axis.at(score), axis.at(low), axis.at(high), y, group)


def _bands(dots: Sequence[Dot]) -> list[tuple[float, float]]:
    found = []
    for tied, run in groupby(dots, key=lambda dot: dot.group == "A"):
        lines = list(run)
        if tied:
            found.append((lines[0].y - LINE / 2, LINE * len(lines)))
    return found


def _said(dot: Dot) -> str:
    group = f", group {dot.group}" if dot.group else ""
    return f"{dot.row.label} {dot.row.score:.1f}{group}"


def _summary(table: Table, columns: Sequence[tuple[BitSpec, Sequence[Row]]]) -> str:
    parts = [f"{bits}: {len(rows)} from {rows[-1].score:.1f} to {rows[0].score:.1f}" for bits, rows in columns]
    return f"Mean {table.metric.title} in percent of {table.model}. " + "; ".join(parts) + "."
