"""Writing pages: at once or in several processes, and never twice to one place."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment

from vitptq.bench.errors import BadInput
from vitptq.bench.website.build_pages import Writer, write_pages
from vitptq.bench.website.page import Page

JINJA = Environment(loader=DictLoader({"page.html": "{{ root }}{{ word }}"}), autoescape=True)


def test_pages_with_a_context_or_with_a_function_for_it_are_written_and_counted(tmp_path: Path) -> None:
    pages = [Page("a.html", "page.html", {"word": "now"}), Page("runs/b.html", "page.html", lambda: {"word": "later"})]
    told: list[tuple[int, int]] = []
    write_pages(pages, JINJA, Writer(tmp_path, tmp_path / "none"), lambda done, of: told.append((done, of)))
    assert (tmp_path / "a.html").read_text() == "now"
    assert (tmp_path / "runs" / "b.html").read_text() == "../later"
    assert told == [(1, 2), (2, 2)]


def test_two_pages_of_one_place_are_refused(tmp_path: Path) -> None:
    pages = [Page("a.html", "page.html", {"word": "one"}), Page("a.html", "page.html", {"word": "two"})]
    with pytest.raises(BadInput, match=r"two pages would share the file a\.html"):
        write_pages(pages, JINJA, Writer(tmp_path, tmp_path / "none"), lambda done, of: None)
