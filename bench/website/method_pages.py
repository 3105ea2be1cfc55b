"""A page per method, and one of the test that compares it with official code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitptq.bench.board.rows import Row
from vitptq.bench.results.cell import canonical_json
from vitptq.bench.website import charts, parameter_charts
from vitptq.bench.website.bar_matrices import bar_matrices
from vitptq.bench.website.page import Content, Page
from vitptq.bench.website.parity_tests import parity_test
from vitptq.bench.website.paths import method_path, parity_path


def pages(content: Content) -> Iterator[Page]:
    """Yield the pages of every method."""
    for card in content.board.cards.values():
        rows = tuple(row for row in content.board.rows if row.cell.method == card.name)
        test = parity_test(card)
        context = {
            "card": card,
            "rows": rows,
            "test": test,
            "compared": any(card.name in found for found in content.comparisons),
            "commands": _commands(rows),
            "parameters": _parameters(rows),
            "bar_matrices": bar_matrices(rows),
            "parameter_charts": tuple(_parameter_charts(content, rows)),
            "histories": [(row, found) for row in rows if (found := content.past.of(row))],
        }
        yield Page(method_path(card.name), "method.html", context)
        if test:
            yield Page(parity_path(card.name), "parity_test.html", {"card": card, "test": test})


def _parameter_charts(content: Content, rows: Sequence[Row]) -> Iterator[tuple[str, list[charts.Chart | None]]]:
    """Yield, for each task of a low-rank method's rows, the charts of all low-rank rows of that task."""
    for task, edition in dict.fromkeys((row.cell.task, row.cell.edition) for row in rows if row.bits.removed):
        tables = [table for table in content.board.tables if (table.task, table.edition) == (task, edition)]
        drawn = [parameter_charts.draw(tables, content.style, size) for size in (charts.WIDE, charts.NARROW)]
        if drawn[0]:
            yield f"{task}, {edition}", drawn


def _parameters(rows: Sequence[Row]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return each parameter with the values that the rows were run with, as JSON, by name."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, value in row.cell.parameters.items():
            found.setdefault(name, {})[canonical_json(value)] = None
    return tuple((name, tuple(found[name])) for name in sorted(found))


def _commands(rows: Sequence[Row]) -> tuple[tuple[Row, str], ...]:
    """Return, for each task and edition, the first row that counts with the command that measures it again."""
    found: dict[tuple[str, str], tuple[Row, str]] = {}
    for row in rows:
        command = row.counted[0].details.repetition.command if row.counted and row.current else ""
        if command:
            found.setdefault((row.cell.task, row.cell.edition), (row, command))
    return tuple(found.values())
