"""Geometry of the Pareto charts, computed at build time: what a score costs in quantising time, bits and size.

The front is drawn with markers and names; whoever paired tests do not show to be worse than a row of the front at its
bit width is ringed, and the rest are dots. The drawing itself is a template.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from vitptq.bench.bits import FLOAT_BITS, BitSpec
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.website.charts import Size, Style, place, round_step, score_range, shorten, steps

PANEL = Size(340, 250, left=36, right=14, top=22, bottom=40, label_chars=18)
CHARACTER = 6.1
"""Width of a letter of a label, in SVG units."""
LINE = 13.0
"""Height of a label."""

Cost = Callable[[Row], float | None]


@dataclass(frozen=True, slots=True)
class Mark:
    """A row of the front."""

    style: Style
    x: float
    y: float
    low: float
    high: float
    label: str
    label_x: float
    label_y: float
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: score against one cost. All in SVG units."""

    id: str
    size: Size
    title: str
    axis: str
    description: str
    columns: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    front: tuple[Mark, ...]
    front_path: str
    ties: str
    """Path of the points within the front's intervals."""
    rest: str
    """Path of all other points."""


@dataclass(frozen=True)
class _Scale:
    """Where values stand in a panel."""

    size: Size
    costs: tuple[float, ...]
    low: float
    high: float
    logarithmic: bool

    @cached_property
    def ends(self) -> tuple[float, float]:
        low, high = (self._linear(edge(self.costs)) for edge in (min, max))
        margin = (high - low or 1.0) * 0.08
        return low - margin, high + margin

    def x(self, cost: float) -> float:
        return place(self._linear(cost), *self.ends, self.size.left, self.size.right_edge)

    def y(self, score: float) -> float:
        return place(score, self.low, self.high, self.size.base, self.size.top)

    def columns(self) -> Iterator[tuple[float, str]]:
        for value in _round_values(self.costs, logarithmic=self.logarithmic):
            if self.size.left <= (x := self.x(value)) <= self.size.right_edge:
                yield x, f"{value:g}"

    def _linear(self, cost: float) -> float:
        return math.log10(cost) if self.logarithmic else cost


def panels(table: Table, bits: BitSpec, style: Mapping[str, Style]) -> tuple[Panel, ...]:
    """Return the charts of one model: time at one bit width, mean bits and size over all dense ones."""
    dense = [row for row in table.dense if row.comparable and row.score is not None]
    at_bits = [row for row in dense if row.bits == bits]
    both = [row for row in dense if row.bits.activations < FLOAT_BITS]
    wanted = (
        (f"Quantising time at {bits}", "seconds", at_bits, lambda row: row.cost("quantise_s"), True),
        ("Mean bits", "bits, mean of weights and activations", both, _mean_bits, False),
        ("Model size", "MiB at the nominal bits", dense, lambda row: row.cost("model_mib"), False),
    )
    drawn = (
        _panel(table, style, title, axis, [row for row in rows if (cost(row) or 0) > 0], cost, logarithmic=logarithmic)
        for title, axis, rows, cost, logarithmic in wanted
    )
    return tuple(panel for panel in drawn if panel is not None)


def front(rows: Sequence[Row], cost: Cost) -> tuple[Row, ...]:
    """Return the rows that no other beats in score at the same or a lower cost, the cheapest first."""
    best = -math.inf
    found = []
    for row in sorted(rows, key=lambda row: (cost(row) or 0.0, -(row.score or 0.0), row.id)):
        if row.score is not None and row.score > best:
            best = row.score
            found.append(row)
    return tuple(found)


def ties(table: Table, rows: Sequence[Row], first: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows behind the front that are not shown to be worse than a row of it at the same bits."""
    return tuple(
        row
        for row in rows
        if row not in first
        and any(row.bits == other.bits and table.groups(row.bits).tied(other.id, row.id) for other in first)
    )


def _panel(
    table: Table, style: Mapping[str, Style], title: str, axis: str, rows: Sequence[Row], cost: Cost, *,
    logarithmic: bool,
) -> Panel | None:  # fmt: skip
    if len(rows) < 2:
        return None
    step, low, high = score_range(rows)
    scale = _Scale(PANEL, tuple(cost(row) or 0.0 for row in rows), low, high, logarithmic)
    first = front(rows, cost)
    tied = ties(table, rows, first)
    rest = [row for row in rows if row not in first and row not in tied]

    def point(row: Row) -> tuple[float, float]:
        return scale.x(cost(row) or 0.0), scale.y(row.score or 0.0)

    marks = tuple(_marks(first, style, scale, point, axis.split(",")[0], cost))
    told = "; ".join(mark.text for mark in marks)
    return Panel(
        id=f"pareto-{table.id[:8]}-{title.split()[0].lower()}",
        size=PANEL,
        title=title,
        axis=axis,
        description=f"{table.metric.title} of {table.model} against {title.lower()}. The front: {told}.",
        columns=tuple(scale.columns()),
        ticks=tuple((scale.y(value), f"{value:g}") for value in steps(low, high, step)),
        front=marks,
        front_path=_stairs(marks, scale),
        ties="".join(f"M{x:.1f} {y:.1f}h0" for x, y in map(point, tied)),
        rest="".join(f"M{x:.1f} {y:.1f}h0" for x, y in map(point, rest)),
    )


def _marks(
    rows: Sequence[Row], style: Mapping[str, Style], scale: _Scale, point: Callable[[Row], tuple[float, float]],
    unit: str, cost: Cost,
) -> Iterator[Mark]:  # fmt: skip
    places = [point(row) for row in rows]
    taken = [_Box(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    taken += [_Box(x - 1, y, x + 1, before) for (_, before), (x, y) in itertools.pairwise(places)]  # the stairs
    for row in rows:
        x, y = point(row)
        label = shorten(row.card.title, scale.size.label_chars)
        label_x, label_y, anchor = _label(x, y, label, scale.size, taken)
        low, high = (row.interval.low, row.interval.high) if row.interval else (row.score or 0.0, row.score or 0.0)
        text = f"{row.label}, {row.bits}: {row.score or 0.0:.2f} at {cost(row) or 0.0:.3g} {unit}"
        yield Mark(
            style[row.cell.method], x, y, scale.y(max(low, scale.low)), scale.y(min(high, scale.high)),
            label if anchor else "", label_x, label_y, anchor, text,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


def _label(x: float, y: float, label: str, size: Size, taken: list[_Box]) -> tuple[float, float, str]:
    """Return where a label has room, and take that room; without an anchor where there is none.

    Nothing stands above and left of a front, so that is tried first.
    """
    width = CHARACTER * len(label)
    for anchor, across, down in (("end", -8, -5), ("start", 8, -5), ("start", 8, 13), ("end", -8, 13)):
        left = x + across - (width if anchor == "end" else 0)
        box = _Box(left, y + down - LINE + 3, left + width, y + down + 3)
        inside = box.left >= size.left and box.right <= size.width - 1 and box.top >= 0 and box.bottom <= size.base
        if inside and not any(box.meets(other) for other in taken):
            taken.append(box)
            return x + across, y + down, anchor
    return 0.0, 0.0, ""


def _stairs(marks: Sequence[Mark], scale: _Scale) -> str:
    """Return the front as stairs: a score is had for its cost and for every higher one."""
    if not marks:
        return ""
    path = f"M{marks[0].x:.1f} {marks[0].y:.1f}"
    path += "".join(f"H{mark.x:.1f}V{mark.y:.1f}" for mark in marks[1:])
    return f"{path}H{scale.size.right_edge:g}"


def _mean_bits(row: Row) -> float:
    return (row.bits.weights + row.bits.activations) / 2


def _round_values(values: Sequence[float], *, logarithmic: bool) -> list[float]:
    """Return round values that a reader finds an axis by.

    >>> _round_values([2.0, 300.0], logarithmic=True), _round_values([3.0, 8.0], logarithmic=False)
    ([1.0, 10.0, 100.0, 1000.0], [3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    """
    low, high = min(values), max(values)
    if logarithmic:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        if last - first > 1:
            return [10.0**exponent for exponent in range(first, last + 1)]
        return [digit * 10.0**first for digit in (1, 2, 3, 5, 7, 10)]
    step = round_step(high - low or 1.0, 5)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
