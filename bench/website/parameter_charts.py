"""Score against parameters: what low-rank factors leave of models, beside float models of other sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.website.charts import (
    LABEL_GAP,
    SHAPES,
    Chart,
    Line,
    Point,
    Size,
    Style,
    place,
    round_step,
    score_range,
    shorten,
    spread,
    steps,
)

FLOAT_STYLE = Style(4, 0, SHAPES[0])
MOST_TICKS = 6


@dataclass(frozen=True, slots=True)
class _Scale:
    size: Size
    most: float
    low: float
    high: float

    def x(self, parameters: float) -> float:
        return place(parameters, 0, self.most, self.size.left, self.size.right_edge)

    def y(self, score: float) -> float:
        return place(score, self.low, self.high, self.size.base, self.size.top)


def draw(tables: Sequence[Table], style: Mapping[str, Style], size: Size) -> Chart | None:
    """Return the chart of the low-rank rows of tables of one task and metric, None where there is none.

    A line joins the rows of one model, method and width of the factors; the float models are points without a line.
    """
    lines = [group for table in tables for group in _lines_of(table)]
    floats = [row for table in tables if table.low_rank for row in table.floats if _drawable(row)]
    if not lines:
        return None
    rows = [*floats, *(row for line in lines for row in line)]
    step, low, high = score_range(rows)
    scale = _Scale(size, 1.05 * max(row.parameters or 0 for row in rows), low, high)
    several = len({row.cell.model for row in rows}) > 1
    named = [(_name(line[0], several), style[line[0].cell.method], line) for line in lines]
    if floats:
        named.append(("float", FLOAT_STYLE, floats))
    return Chart(
        id=f"parameters-{tables[0].id[:8]}-{len(tables)}-{size.width:g}",
        size=size,
        title=f"{tables[0].metric.title} against parameters",
        description=_description(named),
        columns=tuple((scale.x(value), _short(value)) for value in _ticks(scale.most)),
        ticks=tuple((scale.y(value), f"{value:g}") for value in steps(low, high, step)),
        lines=_placed(named, scale),
    )


def _lines_of(table: Table) -> list[list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in table.low_rank:
        if _drawable(row):
            groups.setdefault((row.label, str(row.bits.dense)), []).append(row)
    return [sorted(groups[key], key=lambda row: row.parameters or 0) for key in sorted(groups)]


def _drawable(row: Row) -> bool:
    return row.score is not None and bool(row.parameters)


def _name(row: Row, several: bool) -> str:
    widths = "" if row.bits.weights == 32 else f" {row.bits.dense}"
    return f"{row.cell.model} {row.label}{widths}" if several else f"{row.label}{widths}"


def _placed(named: Sequence[tuple[str, Style, Sequence[Row]]], scale: _Scale) -> tuple[Line, ...]:
    points = [[_point(row, scale) for row in rows] for _, _, rows in named]
    heights = spread([line[-1].y for line in points], LABEL_GAP, scale.size.top, scale.size.base)
    edge = scale.size.right_edge + 2
    return tuple(
        Line(
            label=shorten(name, scale.size.label_chars),
            style=style,
            points=tuple(line),
            path="" if style is FLOAT_STYLE else "M" + "L".join(f"{p.x:.1f} {p.y:.1f}" for p in line),
            label_y=height,
            leader=f"M{line[-1].x + 7:.1f} {line[-1].y:.1f}L{edge:.1f} {height:.1f}",
        )
        for (name, style, _), line, height in zip(named, points, heights, strict=True)
    )


def _point(row: Row, scale: _Scale) -> Point:
    score, count, interval = row.score or 0.0, row.parameters or 0, row.interval
    text = f"{row.cell.model}, {row.label}, {row.widths}: {score:.2f} with {count:,} parameters"
    low, high = (interval.low, interval.high) if interval else (score, score)
    return Point(scale.x(count), scale.y(score), scale.y(low), scale.y(high), text)


def _ticks(most: float) -> list[float]:
    step = round_step(most, MOST_TICKS)
    return steps(0, step * (most // step), step)


def _short(count: float) -> str:
    """Return a count with its unit.

    >>> _short(22_000_000), _short(250_000), _short(0)
    ('22 M', '250 k', '0')
    """
    unit, name = next(((u, n) for u, n in ((1e6, " M"), (1e3, " k")) if count >= u), (1, ""))
    return f"{count / unit:g}{name}"


def _description(named: Sequence[tuple[str, Style, Sequence[Row]]]) -> str:
    parts = [f"{name}: " + ", ".join(f"{r.parameters:,} {r.score:.1f}" for r in rows) for name, _, rows in named]
    return "Parameters and mean score in percent. " + "; ".join(parts) + "."
