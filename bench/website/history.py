"""What became of a row over the commits: score and quantising time of every record, drawn at build time.

Each seed has a line of its own, so that another draw is not taken for a change; times of different machines are not
joined. Failures stand at the bottom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vitptq.bench.results.history import Measured
from vitptq.bench.website.charts import COLOURS, Size, place, round_step, steps
from vitptq.bench.website.formatting import fixed

MOST_VERSIONS = 100
"""Of the newest commits; what lies further back is counted, not drawn."""
MOST_LABELS = 6
MOST_STEPS = 4
"""Of the ticks of a panel."""
GAP = 34.0
"""Between the two panels."""
WIDE = Size(1000, 380, left=52, right=16)
NARROW = Size(360, 330, left=44, right=10)
SMALL = Size(340, 120, left=44, right=12, top=10, bottom=24)
Height = Callable[[float], float]
Places = Mapping[tuple[str, str], float]
"""Where each version stands."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One record."""

    x: float
    y: float
    text: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Series:
    """The records of one seed."""

    colour: int
    path: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity over the commits."""

    title: str
    top: float
    ticks: tuple[tuple[float, str], ...]
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class HistoryChart:
    """Everything that the template needs, in SVG units."""

    id: str
    size: Size
    columns: tuple[tuple[float, str], ...]
    panels: tuple[Panel, ...]
    description: str


@dataclass(frozen=True, slots=True)
class RowHistory:
    """The records of a row, newest first, and its charts."""

    measured: tuple[Measured, ...]
    left_out: int
    charts: tuple[HistoryChart, ...]
    small: HistoryChart


def row_history(measured: Sequence[Measured]) -> RowHistory | None:
    """Return the history of one thing, or None where no seed was measured twice; `measured` is in the order of time."""
    kept = _newest_versions(measured)
    if len({each.seed for each in kept}) == len(kept) or all(each.score is None for each in kept):
        return None
    identity = kept[-1].id[:8]
    charts = tuple(_draw(kept, size, f"history-{identity}-{size.width:g}", True) for size in (WIDE, NARROW))
    small = _draw(kept, SMALL, f"history-{identity}-small", False)
    return RowHistory(tuple(reversed(kept)), len(measured) - len(kept), charts, small)


def _version(each: Measured) -> tuple[str, str]:
    return each.version, each.environment


def _newest_versions(measured: Sequence[Measured]) -> list[Measured]:
    versions = list(dict.fromkeys(map(_version, reversed(measured))))[:MOST_VERSIONS]
    return [each for each in measured if _version(each) in set(versions)]


def _draw(measured: Sequence[Measured], size: Size, name: str, with_times: bool) -> HistoryChart:
    columns = {version: index for index, version in enumerate(dict.fromkeys(map(_version, measured)))}
    room = (size.right_edge - size.left) / len(columns)
    places = {version: size.left + room * (index + 0.5) for version, index in columns.items()}
    metric = next(each.metric for each in reversed(measured) if each.score is not None)
    middle = (size.top + size.base) / 2
    panels = [_panel(metric, measured, "score", places, size.top, middle - GAP / 2 if with_times else size.base)]
    if with_times and any(each.quantise_s is not None for each in measured):
        panels.append(_panel("Quantising, s", measured, "quantise_s", places, middle + GAP / 2, size.base))
    every = math.ceil(len(columns) / MOST_LABELS)
    labels = tuple((places[v], v[0][:7]) for index, v in enumerate(columns) if index % every == 0)
    return HistoryChart(name, size, labels, tuple(panels), _description(metric, measured, len(columns)))


def _panel(title: str, measured: Sequence[Measured], field: str, places: Places, top: float, base: float) -> Panel:
    values = [value for each in measured if (value := getattr(each, field)) is not None]
    step, low, high = _range(values)

    def height(value: float) -> float:
        return place(value, low, high, base, top)

    ticks = tuple((height(value), f"{value:g}") for value in steps(low, high, step))
    seeds = sorted({each.seed for each in measured})
    series = []
    for seed in seeds:
        own = [each for each in measured if each.seed == seed]
        marks = [_mark(each, getattr(each, field), places[_version(each)], height, base) for each in own]
        series.append(Series(seeds.index(seed) % COLOURS, _path(own, marks, field), tuple(m for m in marks if m)))
    return Panel(title, top, ticks, tuple(series))


def _mark(each: Measured, value: float | None, x: float, height: Height, base: float) -> Mark | None:
    told = f"{each.finished[:10]}, {each.version}, seed {each.seed}"
    if each.failure:
        return Mark(x, base, f"{told}: {each.failure}", failed=True)
    if value is None:
        return None
    return Mark(x, height(value), f"{told}: {fixed(value)}", failed=False)


def _path(own: Sequence[Measured], marks: Sequence[Mark | None], field: str) -> str:
    """Join neighbouring records; a failure breaks the line, and so does another machine where times are drawn."""
    path, before = "", None
    for each, mark in zip(own, marks, strict=True):
        if mark is None or mark.failed:
            before = None
            continue
        joined = before is not None and (field == "score" or before.machine == each.machine)
        path += f"{'L' if joined else 'M'}{mark.x:.1f} {mark.y:.1f}"
        before = each
    return path


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the step of the ticks and the first and last tick.

    >>> _range([78.06, 80.0])
    (0.5, 78.0, 80.0)
    """
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    step = round_step(span, MOST_STEPS)
    first, last = math.floor(low / step) * step, math.ceil(high / step) * step
    return step, first, last if last > first else first + step


def _description(metric: str, measured: Sequence[Measured], versions: int) -> str:
    scored = [each for each in measured if each.score is not None]
    first, last = scored[0], scored[-1]
    return (
        f"{metric} over {versions} versions, from {fixed(first.score)} at {first.version} to {fixed(last.score)} "
        f"at {last.version}; {sum(bool(each.failure) for each in measured)} failures."
    )
