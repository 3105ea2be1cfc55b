"""Which pages the leaderboard has: one module per kind of page, each with one template in `site/`."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website import (
    claims_pages,
    method_pages,
    missing_page,
    model_pages,
    night_pages,
    overview_page,
    run_pages,
    which_page,
)
from vitptq.bench.website.page import Content, Page, PagesOf

PAGES: tuple[PagesOf, ...] = (
    overview_page.pages,
    which_page.pages,
    missing_page.pages,
    model_pages.pages,
    run_pages.pages,
    method_pages.pages,
    claims_pages.pages,
    night_pages.pages,
)


def pages(content: Content) -> Iterator[Page]:
    """Yield every page of the site."""
    for kind in PAGES:
        yield from kind(content)
