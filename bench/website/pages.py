"""Which pages the leaderboard has: one module per kind of page, each with one template in `site/`."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website import (
    board_pages,
    changes_page,
    claims_pages,
    compare_pages,
    data_page,
    document_pages,
    method_pages,
    methods_page,
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
    board_pages.pages,
    which_page.pages,
    missing_page.pages,
    model_pages.pages,
    run_pages.pages,
    methods_page.pages,
    method_pages.pages,
    compare_pages.pages,
    claims_pages.pages,
    night_pages.pages,
    data_page.pages,
    changes_page.pages,
    document_pages.pages,
)

MOST_MAPPED = 50_000
"""Addresses that a site map may hold (sitemaps.org); runs come last."""


def pages(content: Content) -> Iterator[Page]:
    """Yield every page of the site, and last the map of them, which needs whole addresses."""
    paths = []
    for kind in PAGES:
        for page in kind(content):
            paths.append(page.path)
            yield page
    if content.base_url:
        found = [path for path in paths if path.endswith(".html")]
        yield Page("sitemap.xml", "sitemap.xml", {"paths": found[:MOST_MAPPED]})
