"""The full tables: one page per task and edition, and one that leads to them with the tasks side by side."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website import charts
from vitptq.bench.website.page import Content, Page
from vitptq.bench.website.paths import board_path
from vitptq.bench.website.templates import overview_bits


def pages(content: Content) -> Iterator[Page]:
    """Yield the boards."""
    yield Page("board.html", "boards.html", {"groups": content.groups})
    for task, edition, tables in content.groups:
        drawn = [(table, charts.draw(table, content.style, charts.SMALL)) for table in tables]
        methods = {row.cell.method for table in tables for row in table.dense}
        context = {
            "task": task,
            "edition": edition,
            "tables": tables,
            "specs": overview_bits(tables),
            "drawn": [(table, chart) for table, chart in drawn if chart],
            "style_of": [(name, style) for name, style in sorted(content.style.items()) if name in methods],
        }
        yield Page(board_path(task, edition), "board.html", context)
