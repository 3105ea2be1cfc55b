"""The system's Chromium, driven by Playwright, for the tests of the website and for its screenshots."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

VARIABLE = "VITPTQ_CHROMIUM"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
MISSING = f"no Chromium on PATH: sudo apt install chromium, or name the program of one with {VARIABLE}"


def chromium() -> str | None:
    """Return the browser's program: the one that the environment names, or the first on PATH."""
    named = os.environ.get(VARIABLE)
    if not named:
        return next(filter(None, map(shutil.which, PROGRAMS)), None)
    found = shutil.which(named)
    if found is None:
        raise FileNotFoundError(f"{VARIABLE} names {named}, which is no program; name another or unset it")
    return found


@contextmanager
def started(program: str) -> Iterator[Browser]:
    """Yield the browser, without a window, and end it afterwards."""
    # Chromium refuses to put itself into a sandbox where it runs as root, as in a container.
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield browser
        browser.close()
