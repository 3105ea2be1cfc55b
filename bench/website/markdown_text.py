"""Markdown as a part of a page: no HTML of its own, no outside image, links to where documents stand on the site."""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape


class _Renderer(RendererHTML):
    """Tables as the site's own are: in a region that scrolls, with a caption and scopes; alignment by class."""

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        label = escape(_table_name(tokens, idx))
        return (
            f'<div class="scroll" role="group" tabindex="0" aria-label="Table: {label}">'
            f'<table data-plain><caption class="hidden">{label}</caption>\n'
        )

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f'<th scope="col"{_number_class(tokens[idx])}>'

    def td_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return '<th scope="row">' if tokens[idx - 1].type == "tr_open" else f"<td{_number_class(tokens[idx])}>"

    def td_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "</th>\n" if tokens[idx - 3].type == "tr_open" else "</td>\n"

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<pre data-copy><code>{escape(tokens[idx].content)}</code></pre>\n"

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return self.fence(tokens, idx, options, env)


@dataclass(frozen=True, slots=True)
class Document:
    """A document as a part of a page."""

    title: str
    text: Markup
    sections: tuple[tuple[str, str], ...]
    """Anchor and text of its headings of the second and third level."""


def document(file: Path, root: Path, places: Mapping[str, str], page: str) -> Document:
    """Read a document. `places` maps documents, relative to `root`, to their pages; `page` is its own.

    A link to a file that has no page becomes its text; an image beside the document is put into the page.
    """
    reader = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    tokens = reader.parse(file.read_text(encoding="utf-8"))
    headings: list[tuple[str, str, str]] = []
    seen: dict[str, int] = {}
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[place + 1].content
            token.attrSet("id", _anchor(heading, seen))
            headings.append((token.tag, str(token.attrGet("id")), heading.replace("`", "")))
        for child in token.children or ():
            if child.type == "image":
                child.attrSet("src", _data_uri(file.parent / str(child.attrGet("src"))))
        if token.children:
            _lead_links(token.children, file.relative_to(root).parent.as_posix(), places, page)
    return Document(
        title=next((heading for tag, _, heading in headings if tag == "h1"), file.stem),
        text=Markup(reader.renderer.render(tokens, reader.options, {})),
        sections=tuple((anchor, heading) for tag, anchor, heading in headings if tag in ("h2", "h3")),
    )


def _lead_links(children: Sequence[Token], folder: str, places: Mapping[str, str], page: str) -> None:
    """Lead links to the pages of documents; take away those that lead nowhere on the site."""
    dropped = 0
    for child in children:
        if child.type == "link_open":
            target = _target(str(child.attrGet("href")), folder, places, page)
            if target is None:
                dropped += 1
                _hide(child)
            else:
                child.attrSet("href", target)
                if target.startswith("https://"):
                    child.attrSet("rel", "noreferrer")
        elif child.type == "link_close" and dropped:
            dropped -= 1
            _hide(child)


def _hide(token: Token) -> None:
    token.type, token.tag, token.nesting, token.content = "text", "", 0, ""


def _target(href: str, folder: str, places: Mapping[str, str], page: str) -> str | None:
    if href.startswith(("https://", "#")):
        return href
    path, _, anchor = href.partition("#")
    found = places.get(posixpath.normpath(posixpath.join(folder, path)))
    if found is None:
        return None
    address = posixpath.relpath(found, posixpath.dirname(page) or ".")
    return f"{address}#{anchor}" if anchor else address


def _data_uri(image: Path) -> str:
    kind = {".svg": "svg+xml", ".png": "png"}[image.suffix]
    return f"data:image/{kind};base64,{base64.b64encode(image.read_bytes()).decode()}"


def _anchor(heading: str, seen: dict[str, int]) -> str:
    """Return a heading's anchor as forges make it: lower case, hyphens for spaces, a number for a repetition."""
    slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") or "section"
    seen[slug] = seen.get(slug, 0) + 1
    return slug if seen[slug] == 1 else f"{slug}-{seen[slug] - 1}"


def _table_name(tokens: Sequence[Token], idx: int) -> str:
    """Return the heading above a table, with a number where it is not the first below that heading."""
    tables = 0
    for place in range(idx, 0, -1):
        kind = tokens[place - 1].type
        if kind == "heading_open":
            heading = tokens[place].content.replace("`", "")
            return f"{heading}, {tables + 1}" if tables else heading
        tables += kind == "table_open"
    return f"{tables + 1}"


def _number_class(token: Token) -> str:
    return ' class="n"' if "right" in str(token.attrGet("style") or "") else ""
