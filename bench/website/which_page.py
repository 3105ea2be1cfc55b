"""The page of answers: which method for which model and bits."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website.page import Content, Page


def pages(content: Content) -> Iterator[Page]:
    """Yield the page of the methods that nothing is shown to beat."""
    yield Page("which.html", "which.html", {"answers": content.answers})
