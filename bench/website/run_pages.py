"""A page per row: every seed of it, what the audit saw, how to measure it again."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website import pictures
from vitptq.bench.website.contact_sheets import contact_sheets
from vitptq.bench.website.page import Content, Page
from vitptq.bench.website.paths import run_path


def pages(content: Content) -> Iterator[Page]:
    """Yield the page of every row."""
    for table in content.board.tables:
        for row in table.rows:
            seen = pictures.views(row, table.floats, content.folders)
            made = contact_sheets(row, content.folders)
            told = {"views": seen, "contact_sheets": made, "history": content.past.of(row)}
            yield Page(run_path(row), "run.html", {"table": table, "row": row, **told})
