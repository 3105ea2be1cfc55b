"""The first page."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website import charts
from vitptq.bench.website.page import Content, Page


def pages(content: Content) -> Iterator[Page]:
    """Yield the overview."""
    small = {table.id: charts.draw(table, content.style, charts.SMALL) for table in content.board.tables}
    yield Page("index.html", "index.html", {"small": small, "style_of": content.style, "year": content.year})
