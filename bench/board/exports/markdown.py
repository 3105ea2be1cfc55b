"""Markdown: methods x bit specs of each model, for an issue or a README."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.board.exports.words import BETWEEN, plain, titles
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.contracts.task import Metric


def as_markdown(board: Board) -> str:
    """Return methods x bit widths of each model as Markdown: scores, half of their 95 % intervals, groups, seeds."""
    return "\n".join("\n".join(_table(table)) for table in board.tables if table.counted)


def markdown(text: str) -> str:
    """Return text that Markdown prints as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|-])", r"\\\1", plain(text))


def _table(table: Table) -> Iterable[str]:
    bits = [b for b in table.bit_specs if table.at(b)]
    metrics = (table.metric, *table.secondary)
    named = f", {markdown(titles(metrics))}" if len(metrics) > 1 else ""
    floats = ", ".join(BETWEEN.join(mean(row, m) for m in metrics) for row in table.floats) or "not measured"
    yield f"**{markdown(table.model)}** ({markdown(table.task)}/{markdown(table.edition)}){named}, float {floats}"
    yield ""
    yield "| " + " | ".join(["method", *map(table.bits_text, bits)]) + " |"
    yield "|---|" + "---:|" * len(bits)
    for line in table.lines:
        by_bits = {row.bits: row for row in line if row.counted}
        if by_bits:
            cells = [_cell(by_bits[b], table) if b in by_bits else _absence(line, b) for b in bits]
            yield "| " + " | ".join([markdown(line[0].label), *cells]) + " |"
    yield ""


def _cell(row: Row, table: Table) -> str:
    scores = BETWEEN.join(_score(row, metric) for metric in (table.metric, *table.secondary))
    return " ".join(filter(None, (scores, table.group(row), f"({seeds(row)})")))


def _absence(line: Iterable[Row], bits: BitSpec) -> str:
    return next((row.status for row in line if row.bits == bits), "not run")


def seeds(row: Row) -> str:
    """Return how many seeds a score is the mean of, and of how many where some are missing."""
    count = len(row.seeds)
    return f"{count} of {count + len(row.missing_seeds)}" if row.missing_seeds else str(count)


def _score(row: Row, metric: Metric) -> str:
    interval = row.interval_of(metric)
    return mean(row, metric) + (f" ± {interval.half_width:.2f}" if interval else "")


def mean(row: Row, metric: Metric) -> str:
    """Return a row's mean of one score as text; a dash where it is not known."""
    score = row.mean(metric)
    return "–" if score is None else f"{score:.2f}"
