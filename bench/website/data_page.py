"""The page of the data: files, how to read them, how to cite them."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website.page import Content, Page


def pages(content: Content) -> Iterator[Page]:
    """Yield the page of the data."""
    yield Page("data.html", "data.html", {})
