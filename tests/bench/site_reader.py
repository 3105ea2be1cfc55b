"""Reading a built leaderboard in tests."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from vitptq.bench.website.build import build

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "site"
VOID = {"meta", "link", "br", "img", "hr", "input", "path", "wbr"}


class Page(HTMLParser):
    """What the tests ask of a page: its elements with attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.html = html
        self.elements = []
        self.open = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def values(self, attribute):
        return [attrs[attribute] for _, attrs in self.elements if attribute in attrs]


def pages(folder):
    return {p.relative_to(folder).as_posix(): Page(p.read_text()) for p in sorted(folder.rglob("*.html"))}


def build_site(board, folder, **options):
    build(board, folder, templates=TEMPLATES, version="0.1.0", **options)
    return pages(folder)


def section(html, name):
    return re.search(rf'<section aria-labelledby="{name}"[^>]*>.*?</section>', html, re.DOTALL)[0]


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def words(page):
    """Return a page's text with single spaces."""
    return " ".join(page.text.split())


def table_named(board, model):
    return next(t for t in board.tables if t.model == model)


def row_named(board, **wanted):
    """Return the first row whose cell has these fields."""
    return next(r for r in board.rows if all(getattr(r.cell, k) == v for k, v in wanted.items()))
