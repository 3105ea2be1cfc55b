"""The project's documents as pages: the protocol, questions and answers, how to add a method, what was found.

Only documents that are there have a page, and the navigation names only those.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vitptq.bench.website import markdown_text
from vitptq.bench.website.page import Content, Page

PROMINENT = ("findings.md", "protocol.md", "faq.md", "add-a-method.md")
"""Documents whose pages lie beside the overview; the others lie in a folder of their own."""


def places(docs: Path | None) -> dict[str, str]:
    """Return the page of every document, by its path in the folder of documents."""
    if docs is None:
        return {}
    files = sorted(file.relative_to(docs).as_posix() for file in docs.rglob("*.md"))
    return {file: _page(file) for file in files}


def pages(content: Content) -> Iterator[Page]:
    """Yield the page of every document."""
    if content.docs is None:
        return
    found = places(content.docs)
    for file, page in found.items():
        text = markdown_text.document(content.docs / file, content.docs, found, page)
        yield Page(page, "document.html", {"document": text})


def _page(file: str) -> str:
    page = file.removesuffix(".md") + ".html"
    return page if file in PROMINENT else f"docs/{page}"
