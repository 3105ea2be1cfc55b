"""Build the leaderboard: the same board gives the same bytes, from disk, without scripts or foreign hosts.

Names, notes and reasons come from other people, so every template escapes, every variable must exist, links are
https or relative, and file names come from hashes. A build happens beside its destination and is swapped in at the end.
"""

from __future__ import annotations

import re
from pathlib import Path

from vitptq.bench.board.board import Board
from vitptq.bench.board.exports.data_files import as_csv, as_json
from vitptq.bench.errors import BadInput
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.folders import Folders
from vitptq.bench.spread import without_collections
from vitptq.bench.website import overview_page
from vitptq.bench.website.build_folder import build_folder, swap
from vitptq.bench.website.build_pages import Progress, Writer, write_pages
from vitptq.bench.website.build_releases import add_release, check_release, keep_releases
from vitptq.bench.website.claim_book import ClaimBook
from vitptq.bench.website.document_pages import places
from vitptq.bench.website.evidence_files import publish_evidence
from vitptq.bench.website.page import Content
from vitptq.bench.website.pages import pages
from vitptq.bench.website.past import NO_PAST, Past
from vitptq.bench.website.templates import environment

MARKER = ".vitptq-site"
"""In every folder built here: only such a folder is ever replaced."""


def build(
    board: Board,
    out: Path,
    *,
    templates: Path,
    version: str,
    folders: Folders | None = None,
    book: ClaimBook | None = None,
    past: Past = NO_PAST,
    docs: Path | None = None,
    base_url: str = "",
    release: str = "",
    progress: Progress | None = None,
) -> Path:
    """Write the site to the folder `out`, replacing an earlier build, and return the path of its index page.

    With `book`, published numbers have pages of their own. With `folders`, the evidence files are checked against
    their records and put beside the pages. With `past`, nights have pages, and rows their history; with `docs`, the
    documents of that folder have pages. `base_url` is where it will stand, for what needs whole addresses. `release` is
    a date at whose address the build is kept for good. Files that stay the same are those of the earlier build.
    """
    target = out.resolve()  # a link stays a link, and "." gets a name to build beside
    _refuse_to_overwrite(target)
    if release:
        check_release(release, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = Content(board, folders, book, past, docs, whole_address(base_url))
    with build_folder(target) as building, without_collections():
        _write(content, Writer(building, target), templates, version, progress or _silent)
        keep_releases(target, building)
        if release:
            add_release(building, release)
        swap(building, target)
    return out / "index.html"


def _refuse_to_overwrite(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).exists():
        raise BadInput(f"{out} holds files that are not a leaderboard built by vitptq; name an empty or a new folder")
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; name an empty or a new folder")


def _write(content: Content, writer: Writer, templates: Path, version: str, progress: Progress) -> None:
    board = content.board
    data = as_json(board)
    evidence = publish_evidence(board, content.folders, writer.folder) if content.folders else {}
    jinja = environment(templates)
    jinja.globals |= {"version": version, "data_hash": sha256(data.encode()), "board": board, "evidence": evidence}
    jinja.globals["year"] = content.year
    jinja.globals |= {"has_claims": content.book is not None, "has_nights": bool(content.past.nights)}
    jinja.globals |= {"has_changes": bool(content.past.measured), "base_url": content.base_url}
    jinja.globals["documents"] = frozenset(places(content.docs).values())
    write_pages(pages(content), jinja, writer, progress)
    writer.write("data.json", data)
    writer.write("data.csv", as_csv(board))
    writer.write("social.png", overview_page.picture(content))
    writer.write(MARKER, "Built by vitptq; replaced as a whole by the next build.\n")


def whole_address(base_url: str) -> str:
    """Return the address of a site with a slash at its end; empty stays empty.

    >>> whole_address("https://example.org/board")
    'https://example.org/board/'
    """
    if not base_url:
        return ""
    if not re.fullmatch(r"https?://[^\s?#]+", base_url):
        raise BadInput(f'"{base_url}" is no address to publish at; give one such as https://example.org/board/')
    return base_url.rstrip("/") + "/"


def _silent(done: int, of: int) -> None:
    """Show no progress."""
