"""Which pages the leaderboard has, and what each template is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.board.method_card import MethodCard
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.website import charts, parameter_charts, pictures
from vitptq.bench.website.answers import answers
from vitptq.bench.website.bar_matrices import bar_matrices
from vitptq.bench.website.claims_pages import ClaimBook
from vitptq.bench.website.contact_sheets import contact_sheets
from vitptq.bench.website.parity_tests import parity_test
from vitptq.bench.website.paths import claims_path, method_path, parity_path, run_path, table_path


@dataclass(frozen=True, slots=True)
class Page:
    """One file of the site: where it goes, its template and what the template is given."""

    path: str
    template: str
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hole:
    """A combination that has no record at all, while its neighbours have one."""

    table: Table
    label: str
    bits: BitSpec


MEANINGS = (
    ("reproduced", "inside the 95 % interval of what was measured here, widened by half of the printed last digit"),
    ("not reproduced", "outside that interval"),
    ("not comparable", "measured, but something else: the line says what differs"),
    ("not run", "nothing that counts was measured here: the line says why"),
)


def pages(board: Board, evidence_dir: Path | None, book: ClaimBook | None = None) -> Iterator[Page]:
    """Yield every page of the site."""
    style = charts.styles([name for name, card in board.cards.items() if card.category != "float"])
    small = {table.id: charts.draw(table, style, charts.SMALL) for table in board.tables}
    yield Page("index.html", "index.html", {"small": small, "style_of": style, "year": _year(board.rows)})
    yield Page("which.html", "which.html", {"answers": tuple(answers(board.tables))})
    yield Page("missing.html", "missing.html", {"holes": tuple(_holes(board))})
    for table in board.tables:
        sizes = (charts.WIDE, charts.NARROW)
        drawn = [charts.draw(table, style, size) for size in sizes]
        sized = [parameter_charts.draw([table], style, size) for size in sizes]
        yield Page(table_path(table), "table.html", {"table": table, "charts": drawn, "parameter_charts": sized})
    for table in board.tables:
        for row in table.rows:
            seen = pictures.views(row, table.floats, evidence_dir)
            made = contact_sheets(row, evidence_dir)
            yield Page(run_path(row), "run.html", {"table": table, "row": row, "views": seen, "contact_sheets": made})
    for card in board.cards.values():
        test = parity_test(card)
        rows = _rows_of(board, card)
        told: dict[str, Any] = {"year": _year(rows), "commands": _commands(rows), "bar_matrices": bar_matrices(rows)}
        told["parameter_charts"] = tuple(_parameter_charts(board, rows, style))
        yield Page(method_path(card.name), "method.html", {"card": card, "rows": rows, "test": test, **told})
        if test:
            yield Page(parity_path(card.name), "parity_test.html", {"card": card, "test": test})
    if book is not None:
        yield from _claims(book)


def _claims(book: ClaimBook) -> Iterator[Page]:
    yield Page("claims.html", "claims.html", {"book": book, "meanings": MEANINGS})
    for model in book.models:
        yield Page(claims_path(model.task, model.name), "claims_model.html", {"model": model})


def _parameter_charts(
    board: Board, rows: Sequence[Row], style: Mapping[str, charts.Style]
) -> Iterator[tuple[str, list[charts.Chart | None]]]:
    """Yield, for each task of a low-rank method's rows, the charts of all low-rank rows of that task."""
    for task, edition in dict.fromkeys((row.cell.task, row.cell.edition) for row in rows if row.bits.removed):
        tables = [table for table in board.tables if (table.task, table.edition) == (task, edition)]
        drawn = [parameter_charts.draw(tables, style, size) for size in (charts.WIDE, charts.NARROW)]
        if drawn[0]:
            yield f"{task}, {edition}", drawn


def _rows_of(board: Board, card: MethodCard) -> tuple[Row, ...]:
    return tuple(row for row in board.rows if row.cell.method == card.name)


def _year(rows: Iterable[Row]) -> int | None:
    """Return the year of the newest record: never that of the build, or the same records would give other bytes."""
    return max((int(record.provenance.finished[:4]) for row in rows for record in row.records), default=None)


def _commands(rows: Sequence[Row]) -> tuple[tuple[Row, str], ...]:
    """Return, for each task and edition, the first row that counts with the command that measures it again."""
    found: dict[tuple[str, str], tuple[Row, str]] = {}
    for row in rows:
        command = row.counted[0].details.repetition.command if row.counted and row.current else ""
        if command:
            found.setdefault((row.cell.task, row.cell.edition), (row, command))
    return tuple(found.values())


def _holes(board: Board) -> Iterator[Hole]:
    for table in board.tables:
        for line in table.lines:
            present = {row.bits for row in line}
            yield from (Hole(table, line[0].label, bits) for bits in table.bit_specs if bits not in present)
