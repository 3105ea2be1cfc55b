"""What charts share: how a method looks everywhere, ranges and ticks, labels that keep apart.

Colour never stands alone: each method has its own marker too, and past the fifth its own dash pattern. All geometry is
computed at build time; the drawing itself is a template.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vitptq.bench.board.rows import Row

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
    lines: tuple[Line, ...]


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """Return one style per method, in the order given."""
    return {name: Style(i % COLOURS, i // COLOURS % DASHES, SHAPES[i % len(SHAPES)]) for i, name in enumerate(methods)}


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


def round_step(span: float, most: int) -> float:
    """Return the least of 1, 2 and 5 times a power of ten of which at most `most` fit into `span`.

    >>> round_step(1.94, 4), round_step(5.0, 5), round_step(22e6, 6)
    (0.5, 1.0, 5000000.0)
    """
    sizes = (unit * 10.0**power for power in range(-6, 16) for unit in (1, 2, 5))
    return next(size for size in sizes if span / size <= most)


def place(value: float, low: float, high: float, start: float, end: float) -> float:
    """Return where a value of a range stands on a line of the drawing, whose ends are those of the range."""
    return start + (value - low) / (high - low) * (end - start)


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
