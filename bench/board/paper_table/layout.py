"""What a paper's comparison table holds, whatever it is written in: rows are methods, columns models, sections bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.board.paired_comparison import Reference
from vitptq.bench.board.paper_table.claimed import Claimed
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table, more_bits_first
from vitptq.bench.contracts.task import Metric
from vitptq.bench.errors import BadInput, UnknownName
from vitptq.bench.results.cell import canonical_json


@dataclass(frozen=True)
class Choice:
    """What a person wants in the table; empty means everything there is, in the board's order."""

    methods: tuple[Reference, ...] = ()
    models: tuple[str, ...] = ()
    bits: tuple[BitSpec, ...] = ()
    metrics: tuple[str, ...] = ()
    floats: bool = True
    """Whether the float models have a line of their own."""


@dataclass(frozen=True)
class Value:
    """One score of the table: measured, claimed, both or neither."""

    score: float | None = None
    half_width: float | None = None
    """Half of its 95 % interval."""
    best: bool = False
    """Shown to be better than every other of its column and section."""
    tied: bool = False
    """Not shown to be worse than the highest, and not alone in that."""
    one_seed: bool = False
    remark: bool = False
    """The board carries a remark that is no mere information."""
    claimed: tuple[float, ...] = ()
    """Published numbers of the same method, model and bits, ascending."""


@dataclass(frozen=True)
class Line:
    """A method's scores in one section, a value per column."""

    label: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Section:
    """The lines of one bit width."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class PaperTable:
    """A table, ready to be written in any format."""

    task: str
    edition: str
    models: tuple[str, ...]
    metrics: tuple[str, ...]
    """Titles of the scores that each model has a column of."""
    sections: tuple[Section, ...]
    methods: tuple[str, ...] = ()
    """Names of the methods shown, for the bibliography."""
    images: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences for the caption, true of this table."""
    source: str = ""
    """The paper's table whose numbers stand here; empty where the table is the board's own."""

    @property
    def values(self) -> tuple[Value, ...]:
        """Return every value."""
        return tuple(value for section in self.sections for line in section.lines for value in line.values)


def paper_table(board: Board, choice: Choice, claimed: Claimed | None = None) -> PaperTable:
    """Return the table of what was chosen; `claimed` finds the published numbers beside it.

    Raises BadInput where the choice spans several tasks or editions, UnknownName where something chosen is not there.
    """
    tables = _tables(board, choice)
    metrics = _metrics(tables, choice)
    columns = [(table, metric) for table in tables for metric in metrics]
    lines = _lines(tables, choice)
    published = claimed or Claimed.nothing()
    sections = [_section(bits, lines, columns, published) for bits in _bits(tables, choice)]
    floats = [_float_section(columns)] if choice.floats else []
    shown = [row for line in lines for row in line.rows if row.counted]
    return PaperTable(
        task=tables[0].task,
        edition=tables[0].edition,
        models=tuple(table.model for table in tables),
        metrics=tuple(metric.title for metric in metrics),
        sections=tuple(section for section in (*floats, *sections) if section.lines),
        methods=tuple(dict.fromkeys(row.cell.method for row in shown)),
        images=tuple(sorted({row.images for row in shown if row.images})),
        notes=tuple(dict.fromkeys(note for table in tables for note in table.comparison_notes)),
    )


@dataclass(frozen=True)
class _MethodLine:
    """One method with one set of parameters, on every model."""

    label: str
    rows: list[Row] = field(default_factory=list)


def _tables(board: Board, choice: Choice) -> list[Table]:
    known = {table.model: table for table in board.tables if table.counted}
    for model in choice.models:
        if model not in known:
            raise UnknownName("model in these results", model, sorted(known))
    tables = [known[model] for model in choice.models] or list(known.values())
    places = sorted({f"{table.task}/{table.edition}" for table in tables})
    if len(places) > 1:
        found = ", ".join(places)
        raise BadInput(f"one table holds one task and edition, these results have {found}: choose with --only task=")
    if not tables:
        raise BadInput("none of these results has a score that counts, so there is no table")
    return tables


def _metrics(tables: Sequence[Table], choice: Choice) -> list[Metric]:
    shown = {metric.name: metric for metric in (tables[0].metric, *tables[0].secondary)}
    known = shown | {metric.name: metric for metric in tables[0].metrics}
    for name in choice.metrics:
        if name not in known:
            raise UnknownName("metric of these results", name, sorted(known))
    return [known[name] for name in choice.metrics] or list(shown.values())


def _bits(tables: Sequence[Table], choice: Choice) -> list[BitSpec]:
    known = {bits for table in tables for bits in table.bit_specs if table.at(bits)}
    for bits in choice.bits:
        if bits not in known:
            raise UnknownName("bits in these results", str(bits), sorted(map(str, known)))
    return list(choice.bits) or sorted(known, key=more_bits_first)


def _lines(tables: Sequence[Table], choice: Choice) -> list[_MethodLine]:
    """Return the chosen methods' rows of all models, in the order in which they were chosen."""
    lines: dict[str, _MethodLine] = {}
    for row in (row for table in tables for row in table.quantised):
        cell = row.cell
        key = canonical_json([cell.method, cell.parameters, cell.track, cell.calibration_size, cell.precision])
        known = lines.setdefault(key, _MethodLine(row.label))
        if len(row.label) > len(known.label):  # what sets it apart on one model does so on all
            lines[key] = known = _MethodLine(row.label, known.rows)
        known.rows.append(row)
    found = sorted(lines.values(), key=lambda line: (line.label.lower(), line.label))
    if not choice.methods:
        return found
    for wanted in choice.methods:
        if not any(wanted.fits(line.rows[0]) for line in found):
            methods = sorted({line.rows[0].cell.method for line in found})
            raise UnknownName("method in these results", wanted.method, methods)
    return [line for wanted in choice.methods for line in found if wanted.fits(line.rows[0])]


def _section(
    bits: BitSpec, lines: Sequence[_MethodLine], columns: Sequence[tuple[Table, Metric]], claimed: Claimed
) -> Section:
    shown = [line for line in lines if any(row.bits == bits for row in line.rows)]
    shares = dict.fromkeys(table.bits_text(bits) for table, _ in columns if table.at(bits))
    title = next(iter(shares)) if len(shares) == 1 else str(bits)

    def values(line: _MethodLine) -> Iterator[Value]:
        for table, metric in columns:
            yield _value(_of(line.rows, table, bits), table, metric, claimed)

    return Section(title, tuple(Line(line.label, tuple(values(line))) for line in shown))


def _of(rows: Sequence[Row], table: Table, bits: BitSpec) -> Row | None:
    return next((row for row in rows if row.bits == bits and row in table.quantised), None)


def _float_section(columns: Sequence[tuple[Table, Metric]]) -> Section:
    values = tuple(_value(table.floats[0] if table.floats else None, table, metric) for table, metric in columns)
    return Section("Float", (Line("Float", values),))


def _value(row: Row | None, table: Table, metric: Metric, claimed: Claimed | None = None) -> Value:
    if row is None:
        return Value()
    interval = row.interval_of(metric)
    ranks = metric is table.metric and not row.is_float
    winners = table.winners(row.bits) if ranks else ()
    return Value(
        score=row.mean(metric),
        half_width=interval.half_width if interval else None,
        best=ranks and table.stands_out(row),
        tied=row in winners and len(winners) > 1,
        one_seed=len(row.seeds) == 1 and not row.is_float,
        remark=any(badge.tone != "info" for badge in row.badges),
        claimed=claimed.beside(row.cell, metric.name) if claimed else (),
    )
