"""A page per task, edition and model: its chart, every method, details and costs."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website import charts, dot_plots, parameter_charts
from vitptq.bench.website.page import Content, Page
from vitptq.bench.website.paths import table_path


def pages(content: Content) -> Iterator[Page]:
    """Yield the page of every model."""
    for table in content.board.tables:
        sized = [parameter_charts.draw([table], content.style, size) for size in (charts.WIDE, charts.NARROW)]
        context = {"table": table, "panels": dot_plots.panels(table), "parameter_charts": sized}
        yield Page(table_path(table), "table.html", context)
