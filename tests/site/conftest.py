"""A leaderboard, opened in the system's Chromium; a fault that the browser reports on any page fails the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, Page

from tests.chromium import MISSING, chromium, started
from tests.site.example_site import build_example

Visit = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Yield Chromium; without one the tests are skipped, but not where CI runs them."""
    program = chromium()
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    with started(program) as browser:
        yield browser


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a leaderboard that all processes of a test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "example-site"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            build_example(folder)
    return folder


@pytest.fixture
def faults() -> list[str]:
    """Return what the browser has reported so far: errors, warnings, requests for anything beside the pages."""
    return []


@pytest.fixture
def visit(browser: Browser, site: Path, faults: list[str]) -> Iterator[Visit]:
    """Yield a function that opens a page of the site, in a profile of its own."""
    contexts = []

    def open_page(path: str = "index.html", width: int = 1440, **profile: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **profile)
        contexts.append(context)
        page = context.new_page()
        watch(page, site, faults)
        page.goto(f"{site.as_uri()}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def watch(page: Page, site: Path, faults: list[str]) -> None:
    """Note what goes wrong on a page."""
    inside = (site.as_uri(), "data:", "blob:", "about:")
    page.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(inside) else faults.append(asked.url))
