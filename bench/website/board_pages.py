"""The full tables: one page per task and edition, and one that leads to them with the tasks side by side."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website import dot_plots
from vitptq.bench.website.page import Content, Page
from vitptq.bench.website.paths import board_path
from vitptq.bench.website.templates import overview_bits


def pages(content: Content) -> Iterator[Page]:
    """Yield the boards."""
    yield Page("board.html", "boards.html", {"groups": content.groups})
    for task, edition, tables in content.groups:
        drawn = [(table, dot_plots.strip(table)) for table in tables]
        context = {
            "task": task,
            "edition": edition,
            "tables": tables,
            "specs": overview_bits(tables),
            "drawn": [(table, chart) for table, chart in drawn if chart],
        }
        yield Page(board_path(task, edition), "board.html", context)
