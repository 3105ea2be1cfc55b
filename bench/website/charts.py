"""Geometry of the line charts, computed at build time: score against bit width, one line per method.

More bits stand left and fewer right, so the lines fan out towards their labels. Colour never stands alone: each method
has its own marker too, and past the fifth its own dash pattern. The drawing itself is a template.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table

# The Okabe-Ito colours that reach 3:1 on both backgrounds: blue, vermillion, green, purple, and the ink itself.
COLOURS = 5
DASHES = 3
LABEL_GAP = 15.0
# Drawn around (0, 0), about 10 units wide: circle, square, triangle, diamond, inverted triangle, plus, cross.
SHAPES = (
    "M-4.4 0a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0 -8.8 0z",
    "M-4 -4h8v8h-8z",
    "M0 -5.2L5 3.8H-5z",
    "M0 -5.6L5.6 0L0 5.6L-5.6 0z",
    "M0 5.2L5 -3.8H-5z",
    "M-1.8 -5.2h3.6v3.4h3.4v3.6h-3.4v3.4h-3.6v-3.4h-3.4v-3.6h3.4z",
    "M-5 -2.6L-2.6 -5L0 -2.4L2.6 -5L5 -2.6L2.4 0L5 2.6L2.6 5L0 2.4L-2.6 5L-5 2.6L-2.4 0z",
)


@dataclass(frozen=True, slots=True)
class Style:
    """How one method is drawn, everywhere on the site."""

    colour: int
    dash: int
    shape: str


@dataclass(frozen=True, slots=True)
class Size:
    """Room for a chart and its margins, in SVG units."""

    width: float
    height: float
    left: float
    right: float
    top: float = 14
    bottom: float = 34
    label_chars: int = 0
    """Room for a label at the end of each line; 0: no labels."""

    @property
    def right_edge(self) -> float:
        """Return where the plot ends."""
        return self.width - self.right

    @property
    def base(self) -> float:
        """Return where the plot's bottom is."""
        return self.height - self.bottom


WIDE = Size(1000, 400, left=46, right=156, label_chars=19)
NARROW = Size(360, 330, left=34, right=104, label_chars=13)
SMALL = Size(340, 190, left=34, right=12, top=10, bottom=28)


@dataclass(frozen=True, slots=True)
class Point:
    """One score with its whisker."""

    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One method's points, its path and its label."""

    label: str
    style: Style
    points: tuple[Point, ...]
    path: str
    label_y: float
    leader: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that the template needs, in SVG units."""

    id: str
    size: Size
    title: str
    description: str
    columns: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    float_y: float | None
    float_label_y: float
    float_text: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class _Scale:
    size: Size
    bits: tuple[BitSpec, ...]
    low: float
    high: float

    def x(self, bits: BitSpec, shift: float = 0) -> float:
        room = (self.size.right_edge - self.size.left) / len(self.bits)
        return self.size.left + room * (self.bits.index(bits) + 0.5) + shift

    def y(self, score: float) -> float:
        return self.size.base - (score - self.low) / (self.high - self.low) * (self.size.base - self.size.top)


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """Return one style per method, in the order given."""
    return {name: Style(i % COLOURS, i // COLOURS % DASHES, SHAPES[i % len(SHAPES)]) for i, name in enumerate(methods)}


def draw(table: Table, style: Mapping[str, Style], size: Size) -> Chart | None:
    """Return the chart of one table's counted rows, or None where there is nothing to draw."""
    if all(row.score is None for row in table.dense):
        return None
    step, low, high = score_range([*table.dense, *table.floats])
    scale = _Scale(size, tuple(b for b in table.bit_specs if not b.own_category and table.at(b)), low, high)
    ticks = tuple((scale.y(value), f"{value:g}") for value in steps(low, high, step))
    float_score = table.floats[0].score if table.floats else None
    float_y = None if float_score is None else scale.y(float_score)
    lines, float_label_y = _lines(table, style, scale, float_y)
    return Chart(
        id=f"chart-{table.id[:8]}-{size.width:g}",
        size=size,
        title=f"{table.metric.title} of {table.model} by bit width",
        description=_description(table),
        columns=tuple((scale.x(b), str(b)) for b in scale.bits),
        ticks=ticks,
        float_y=float_y,
        float_label_y=float_label_y,
        float_text="" if float_score is None else f"float {float_score:.1f}",
        lines=lines,
    )


def _lines(
    table: Table, style: Mapping[str, Style], scale: _Scale, float_y: float | None
) -> tuple[tuple[Line, ...], float]:
    """Return the lines and the height of the float model's label, which shares the margin with theirs."""
    lines_of_dense = ([r for r in line if not r.bits.own_category and r.score is not None] for line in table.lines)
    drawn = [line for line in lines_of_dense if line]
    gap = min(9.0, (scale.size.right_edge - scale.size.left) / len(scale.bits) / (len(drawn) + 1))
    points = [
        [_point(row, scale, gap * (index - (len(drawn) - 1) / 2)) for row in sorted(line, key=_by_column(scale))]
        for index, line in enumerate(drawn)
    ]
    ends = [float_y if float_y is not None else scale.size.top, *(p[-1].y for p in points)]
    float_label_y, *heights = spread(ends, LABEL_GAP, scale.size.top, scale.size.base)
    lines = tuple(
        Line(
            label=shorten(line[0].label, scale.size.label_chars),
            style=style[line[0].cell.method],
            points=tuple(marks),
            path=_path(line, marks, scale),
            label_y=height,
            leader=f"M{marks[-1].x + 7:.1f} {marks[-1].y:.1f}L{scale.size.right_edge + 2:.1f} {height:.1f}",
        )
        for line, marks, height in zip(drawn, points, heights, strict=True)
    )
    return lines, float_label_y


def _path(line: Sequence[Row], marks: Sequence[Point], scale: _Scale) -> str:
    """Join neighbouring bit widths; a missing one breaks the line instead of being bridged."""
    columns = [scale.bits.index(row.bits) for row in sorted(line, key=_by_column(scale))]
    path = ""
    for position, (column, mark) in enumerate(zip(columns, marks, strict=True)):
        joined = position > 0 and columns[position - 1] == column - 1
        path += f"{'L' if joined else 'M'}{mark.x:.1f} {mark.y:.1f}"
    return path


def _by_column(scale: _Scale) -> Callable[[Row], float]:
    return lambda row: scale.x(row.bits)


def _point(row: Row, scale: _Scale, shift: float) -> Point:
    score = row.score if row.score is not None else scale.low
    interval = row.interval
    text = f"{row.label}, {row.widths}: {score:.2f}"
    if interval is not None:
        text += f" (95 % interval {interval.low:.2f} to {interval.high:.2f})"
    low, high = (interval.low, interval.high) if interval else (score, score)
    return Point(scale.x(row.bits, shift), scale.y(score), scale.y(low), scale.y(high), text)


def score_range(rows: Sequence[Row]) -> tuple[float, float, float]:
    """Return the step of the ticks and the first and last tick."""
    scores = [row.score for row in rows if row.score is not None]
    edges = [edge for row in rows if row.interval for edge in (row.interval.low, row.interval.high)]
    low, high = min([*scores, *edges]), max([*scores, *edges])
    step = next(s for s in (0.5, 1, 2, 5, 10, 20) if (high - low) / s <= 6 or s == 20)
    first, last = math.floor(low / step) * step, math.ceil(high / step) * step
    return step, float(first if first < last else first - step), float(last)


def steps(low: float, high: float, step: float) -> list[float]:
    """Return the values from `low` to `high`."""
    return [low + i * step for i in range(round((high - low) / step) + 1)]


def spread(heights: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Move labels apart until neighbours are `gap` away, keeping their order and staying within the plot."""
    order = sorted(range(len(heights)), key=lambda i: (heights[i], i))
    placed: list[float] = []
    for i in order:
        placed.append(max(heights[i], top if not placed else placed[-1] + gap))
    limit = bottom
    for position in reversed(range(len(placed))):
        placed[position] = min(placed[position], limit)
        limit = placed[position] - gap
    result = [0.0] * len(heights)
    for position, i in enumerate(order):
        result[i] = placed[position]
    return result


def shorten(label: str, room: int) -> str:
    """Shorten from the middle: rows of one method differ in the parameters at the end."""
    if len(label) <= room or not room:
        return label
    head = (room - 1) // 2
    return f"{label[:head]}…{label[head + 1 - room :]}"


def _description(table: Table) -> str:
    parts = []
    for line in table.lines:
        counted = [row for row in line if row.score is not None and not row.bits.own_category]
        scores = [f"{row.bits} {row.score:.1f}" for row in counted]
        if scores:
            parts.append(f"{line[0].label}: {', '.join(scores)}")
    return f"Mean {table.metric.title} in percent. " + "; ".join(parts) + "."
