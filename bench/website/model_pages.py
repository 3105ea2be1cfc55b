"""A page per task, edition and model: its chart, every method, details and costs."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website import charts, parameter_charts
from vitptq.bench.website.page import Content, Page
from vitptq.bench.website.paths import table_path


def pages(content: Content) -> Iterator[Page]:
    """Yield the page of every model."""
    for table in content.board.tables:
        sizes = (charts.WIDE, charts.NARROW)
        drawn = [charts.draw(table, content.style, size) for size in sizes]
        sized = [parameter_charts.draw([table], content.style, size) for size in sizes]
        yield Page(table_path(table), "table.html", {"table": table, "charts": drawn, "parameter_charts": sized})
