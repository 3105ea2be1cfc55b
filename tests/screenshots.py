"""Take the pictures of the leaderboard that the documents show.

`python -m tests.screenshots build/site docs/figures`, after `vitptq site --out build/site`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser

from tests.chromium import MISSING, chromium, started

COLOURS = 64
"""Enough for text on one background; a palette makes a picture a quarter as large."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture: which page, in what window."""

    name: str
    page: str
    """A pattern of paths in the site's folder; of several pages the largest."""
    width: int = 1440
    height: int = 1000
    scheme: Literal["light", "dark"] = "light"


SHOTS = (
    Shot("site-overview", "index.html"),
    Shot("site-overview-dark", "index.html", scheme="dark"),
    Shot("site-overview-phone", "index.html", width=390, height=844),
    Shot("site-model", "tables/*.html"),
    Shot("site-method", "methods/*.html"),
    Shot("site-run", "runs/*.html"),
)


def take(shot: Shot, site: Path, browser: Browser) -> bytes:
    """Return the picture as a PNG file."""
    with browser.new_context(
        viewport={"width": shot.width, "height": shot.height}, color_scheme=shot.scheme, reduced_motion="reduce"
    ) as context:
        page = context.new_page()
        page.goto(max(site.glob(shot.page), key=lambda path: path.stat().st_size).resolve().as_uri())
        return _with_few_colours(page.screenshot())


def _with_few_colours(picture: bytes) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
        file, "PNG", optimize=True
    )
    return file.getvalue()


def problems(arguments: list[str]) -> Iterator[str]:
    """Yield what keeps the pictures from being taken."""
    if len(arguments) != 2:
        yield "usage: python -m tests.screenshots SITE FOLDER"
    elif not Path(arguments[0], "index.html").is_file():
        yield f"{arguments[0]} holds no leaderboard: build one there with vitptq site --out {arguments[0]}"
    if chromium() is None:
        yield MISSING


def main(arguments: list[str]) -> int:
    """Take every picture; return the exit status."""
    if found := list(problems(arguments)):
        print("\n".join(found), file=sys.stderr)
        return 2
    site, folder = map(Path, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    with started(chromium() or "") as browser:
        for shot in SHOTS:
            path = folder / f"{shot.name}.png"
            path.write_bytes(take(shot, site, browser))
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
