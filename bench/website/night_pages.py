"""The nights: a list of them, newest first, and a page per night."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website.nights import context
from vitptq.bench.website.page import Content, Page


def pages(content: Content) -> Iterator[Page]:
    """Yield the pages of the nights, where there are some."""
    nights = content.past.nights
    if not nights:
        return
    yield Page("nights.html", "nights.html", {"nights": nights})
    runs = {record.id: row for row in content.board.rows for record in row.records}
    for night, before, after in zip(nights, [*nights[1:], None], [None, *nights[:-1]], strict=True):
        around = {"night": night, "before": before, "after": after}
        yield Page(night.path, "night.html", around | context(night.report, runs))
