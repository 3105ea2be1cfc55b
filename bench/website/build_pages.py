"""Write the pages: those that take time in several processes, and a file that would not change stays the same file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import Environment

from vitptq.bench.errors import BadInput
from vitptq.bench.spread import spread
from vitptq.bench.website.page import Page

Progress = Callable[[int, int], None]
"""Is told how many of how many pages are written."""


class Writer:
    """Writes files of a site to a folder; `earlier` is the site that it will replace, if there is one."""

    def __init__(self, folder: Path, earlier: Path) -> None:
        self.folder, self._earlier = folder, earlier

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file, or give its name to the earlier site's file where that has the same bytes."""
        place, data = self.folder / path, content.encode() if isinstance(content, str) else content
        if place.exists():
            raise BadInput(f"two pages would share the file {place.name}")
        place.parent.mkdir(exist_ok=True)
        if not self._kept(path, data):
            place.write_bytes(data)

    def _kept(self, path: str, data: bytes) -> bool:
        """Link the earlier file; tell whether that worked. Its time then says when the page last changed."""
        before = self._earlier / path
        with suppress(OSError):
            if before.is_file() and not before.is_symlink() and before.read_bytes() == data:
                os.link(before, self.folder / path)
                return True
        return False


def write_pages(pages: Iterable[Page], jinja: Environment, writer: Writer, progress: Progress) -> None:
    """Render and write every page."""
    now: list[Page] = []
    later: list[Page] = []
    for page in pages:
        (later if callable(page.context) else now).append(page)
    whole, done = len(now) + len(later), 0

    def write(page: Page) -> None:
        writer.write(page.path, render(page, jinja))

    others = spread(write, later)
    for page in now:
        write(page)
        progress(done := done + 1, whole)
    for _ in others.results():
        progress(done := done + 1, whole)


def render(page: Page, jinja: Environment) -> str:
    """Return the page as HTML."""
    context: Mapping[str, Any] = page.context() if callable(page.context) else page.context
    where = {"root": "../" * page.path.count("/"), "path": page.path}
    return jinja.get_template(page.template).render(**where, **context)
