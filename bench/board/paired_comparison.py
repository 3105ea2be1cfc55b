"""Every row of a board beside one method, on the same images and calibration draws (`paired_difference`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.board.exports.markdown import markdown, mean, seeds
from vitptq.bench.board.paired_difference import ONE_DRAW, Difference, difference, verdict
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.board.tie_groups import holm
from vitptq.bench.contracts.task import Metric
from vitptq.bench.errors import BadInput, UnknownName


@dataclass(frozen=True)
class Reference:
    """The method that others are compared with, and what its parameters must be."""

    method: str
    parameters: tuple[tuple[str, JsonValue], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read METHOD or METHOD:KEY=VALUE,KEY=VALUE; values as in a suite file (0.5, true, "diagonal" or diagonal)."""
        method, _, rest = text.partition(":")
        pairs = []
        for part in filter(None, rest.split(",")):
            key, separator, value = part.partition("=")
            if not separator:
                raise BadInput(f'"{part}" in "{text}" is not KEY=VALUE')
            pairs.append((key, _value(value)))
        return cls(method, tuple(pairs))

    def fits(self, row: Row) -> bool:
        """Tell whether a row is of this method with these parameters."""
        given = row.cell.parameters
        return row.cell.method == self.method and all(k in given and given[k] == v for k, v in self.parameters)


def as_markdown(board: Board, reference: Reference) -> str:
    """Return a table per model and bit width: each row's score and its paired difference to the reference.

    Raises UnknownName where no row is of the reference's method, BadInput where its parameters fit none or several.
    """
    known = {row.cell.method for table in board.tables for row in table.quantised}
    if reference.method not in known:
        raise UnknownName("method in these results", reference.method, sorted(known))
    lines = [line for table in board.tables for bits in table.bit_specs for line in _section(table, bits, reference)]
    if not lines:
        raise BadInput(
            f"no row fits {_text(reference)}, or its evidence is not in these results; see the rows with: vitptq board"
        )
    return "\n".join([*lines, EXPLANATION]) + "\n"


EXPLANATION = (
    "Differences in points with 95 % intervals, each read alone. The verdicts of one table and score are corrected "
    f'together (Holm), so an interval that leaves zero out may still be "not separated". {ONE_DRAW.capitalize()}: '
    "nothing is said about another draw."
)


def _section(table: Table, bits: BitSpec, reference: Reference) -> Iterator[str]:
    """Yield the lines of one table; none where the reference is missing, or nothing tells how its scores vary."""
    rows = [row for row in table.at(bits) if row.comparable]  # as ranks: one data version, one protocol
    fitting = [row for row in rows if reference.fits(row)]
    if not fitting or not fitting[0].draws(table.metric):
        return
    beside = {row.id: _beside(row, fitting, reference) for row in rows}
    columns = [_Column(metric, rows, beside, table) for metric in (table.metric, *table.secondary)]
    title = markdown(fitting[0].card.title)
    place = f"{markdown(table.task)}/{markdown(table.edition)}"
    yield f"**{markdown(table.model)}** ({place}), {table.bits_text(bits)}"
    yield ""
    yield "| method |" + "".join(f" {markdown(c.metric.title)} | against {title} | |" for c in columns)
    yield "|---|" + "---:|---:|---|" * len(columns)
    for row in rows:
        yield f"| {markdown(row.label)} |" + "".join(column.cells(row) for column in columns)
    yield ""


def _beside(row: Row, fitting: Sequence[Row], reference: Reference) -> Row:
    """Return the one reference row: where there are several, that with as many calibration images."""
    same = [r for r in fitting if r.cell.calibration_size == row.cell.calibration_size] or list(fitting)
    if len(same) > 1:
        raise BadInput(
            f"{_text(reference)} fits {len(same)} rows at {row.bits}: {'; '.join(r.label for r in same)}; "
            "name parameters: METHOD:KEY=VALUE,KEY=VALUE"
        )
    return same[0]


class _Column:
    """One score of every row, beside that of its reference row."""

    def __init__(self, metric: Metric, rows: Sequence[Row], beside: Mapping[str, Row], table: Table) -> None:
        self.metric = metric
        others = [row for row in rows if row is not beside[row.id]]
        found = {row.id: _difference(row, beside[row.id], metric, table) for row in others}
        self._apart = {row: apart for row, apart in found.items() if apart is not None}
        self._p = dict(zip(self._apart, holm([apart.p for apart in self._apart.values()]), strict=True))

    def cells(self, row: Row) -> str:
        """Return the row's three cells: score, difference, verdict."""
        score, apart = f"{mean(row, self.metric)} ({seeds(row)})", self._apart.get(row.id)
        if apart is None:
            return f" {score} | – | |"
        interval = f"{apart.points:+.2f} ({apart.low:+.2f} to {apart.high:+.2f})"
        return f" {score} | {interval} | {_verdict(apart, self._p[row.id], row)} |"


def _difference(row: Row, other: Row, metric: Metric, table: Table) -> Difference | None:
    """Return the difference of a row to another; the draws' spread is pooled as for the ranks."""
    spread = table.groups(row.bits).spread if metric is table.metric else None
    pooled = spread if spread and spread.covers(row.id, other.id) else None
    return difference(row.draws(metric), other.draws(metric), pooled)


def _verdict(apart: Difference, p: float, row: Row) -> str:
    """Say also on how many draws, where that is one or fewer than the row has."""
    if apart.seeds == 1:
        return f"{verdict(apart.points, p)} ({ONE_DRAW})"
    return verdict(apart.points, p) + (f" (draws of both: {apart.seeds})" if apart.seeds < len(row.seeds) else "")


def _value(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value


def _text(reference: Reference) -> str:
    pairs = ",".join(f"{key}={value}" for key, value in reference.parameters)
    return f"{reference.method}:{pairs}" if pairs else reference.method
