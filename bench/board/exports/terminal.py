"""Plain text tables, as good in a log file as on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vitptq.bench.board.board import Board
from vitptq.bench.board.exports.words import plain
from vitptq.bench.board.rows import Row, why_apart
from vitptq.bench.board.statistics import Interval
from vitptq.bench.board.tables import Table

LEFT_ALIGNED = ("method", "bits", "group", "remarks")


def as_table(board: Board) -> str:
    """Return the rows that count of every table, one line each, and below them those that do not, with the reason."""
    if not board.tables:
        return "no records yet; run a suite first, for example: vitptq run quick\n"
    return "\n".join("\n".join(_table(table)) for table in board.tables)


def _table(table: Table) -> Iterable[str]:
    yield plain(f"{table.task}/{table.edition} · {table.model} · {table.metric.title}, percent")
    yield from _aligned(_header(table), [_line(row, table) for row in table.counted])
    yield from (f"  {note}" for note in table.comparison_notes)
    for row in table.rows:
        for record in row.apart:
            yield "  " + plain(f"not counted: {row.label} {row.bits} {record.cell.draw}: {why_apart(record)}")
        for record in row.failed:
            failure = f"{record.failure.kind}: {record.failure.message}" if record.failure else ""
            yield "  " + plain(f"no score: {row.label} {row.bits} {record.cell.draw}: {failure}")
    yield ""


def _header(table: Table) -> tuple[str, ...]:
    scores = ("score", "95 % interval", "rank", "group", "drop", *(plain(metric.title) for metric in table.secondary))
    return "method", "bits", *scores, "seeds", "MACs %", "quantise s", "evaluate s", "MiB", "remarks"


def _line(row: Row, table: Table) -> tuple[str, ...]:
    return (
        plain(row.label),
        str(row.bits) if not row.is_float else "not quantised",
        _fixed(row.score, 2),
        _range(row.interval),
        str(table.rank(row) or "-"),
        table.group(row) or "-",
        _fixed(row.drop, 2, sign=True),
        *(_fixed(row.mean(metric), 2) for metric in row.secondary),
        f"{len(row.seeds)}/{len(row.expected_seeds)}",
        _fixed(row.quantised_share, 1),
        _fixed(row.cost("quantise_s"), 1),
        _fixed(row.cost("evaluate_s"), 1),
        _fixed(row.cost("model_mib"), 2),
        plain(", ".join(badge.text for badge in row.badges)),
    )


def _aligned(header: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    rule = ["-" * width for width in widths]
    for line in (header, rule, *lines):
        cells = [
            text.ljust(width) if name in LEFT_ALIGNED else text.rjust(width)
            for name, text, width in zip(header, line, widths, strict=True)
        ]
        yield ("  " + "  ".join(cells)).rstrip()


def _fixed(value: float | None, digits: int, *, sign: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def _range(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:.2f} to {interval.high:.2f}"
