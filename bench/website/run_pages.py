"""A page per row: every seed of it, what the audit saw, how to measure it again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from vitptq.bench import catalogue
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.website import pictures
from vitptq.bench.website.contact_sheets import contact_sheets
from vitptq.bench.website.page import Content, Page
from vitptq.bench.website.paths import run_path


def pages(content: Content) -> Iterator[Page]:
    """Yield the page of every row."""
    drawing = catalogue.drawing_tasks() if content.folders else set()
    for table in content.board.tables:
        draws = (table.task, table.edition) in drawing  # asking the others would load them for nothing
        for row in table.rows:
            yield Page(run_path(row), "run.html", partial(_context, content, table, row, draws))


def _context(content: Content, table: Table, row: Row, draws: bool) -> dict[str, Any]:
    seen = pictures.views(row, table.floats, content.folders) if draws else ()
    made = contact_sheets(row, content.folders)
    return {"table": table, "row": row, "views": seen, "contact_sheets": made, "history": content.past.of(row)}
