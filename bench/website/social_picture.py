"""The picture that stands beside a link to the leaderboard: the question, what won, how much was measured."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

SIZE = (1200, 630)
PAGE, INK, QUIET, ACCENT, TOP = "#101a3d", "#ffffff", "#aebbe8", "#9db4ff", "#ffb45c"
EDGE = 72
STAIRS = ((0, 3), (1, 3), (2, 3), (3, 3), (1, 2), (2, 2), (3, 2), (2, 1), (3, 1))
"""Column and row of each patch of the mark but the topmost."""


def social_picture(title: str, lines: Sequence[tuple[str, str]], counts: str) -> bytes:
    """Return a PNG with a title, a few lines (where, what) and a line of counts; what is too wide is cut short."""
    picture = Image.new("RGB", SIZE, PAGE)
    draw = ImageDraw.Draw(picture)
    _mark(draw, EDGE, EDGE, 13)
    _text(draw, (EDGE + 76, EDGE + 2), "vitptq", 44, INK)
    y = 176
    for line in _wrapped(title, 64, SIZE[0] - 2 * EDGE)[:2]:
        _text(draw, (EDGE, y), line, 64, INK, weight=1)
        y += 76
    y += 26
    for where, what in lines[: (SIZE[1] - 90 - y) // 80]:
        draw.rectangle((EDGE, y + 4, EDGE + 4, y + 62), fill=ACCENT)
        _text(draw, (EDGE + 22, y), where, 22, QUIET)
        _text(draw, (EDGE + 22, y + 30), what, 29, INK)
        y += 80
    _text(draw, (EDGE, SIZE[1] - 58), counts, 24, QUIET)
    saved = io.BytesIO()
    picture.quantize(255).save(saved, "PNG", optimize=True)
    return saved.getvalue()


def _mark(draw: ImageDraw.ImageDraw, x: int, y: int, patch: int) -> None:
    """Draw the mark: stairs of patches, the topmost in another colour."""
    pitch = patch + 3
    for column, row in STAIRS:
        _square(draw, x + column * pitch, y + row * pitch - patch, patch, INK)
    _square(draw, x + 3 * pitch, y - patch, patch, TOP)


def _square(draw: ImageDraw.ImageDraw, x: int, y: int, side: int, colour: str) -> None:
    draw.rectangle((x, y, x + side - 1, y + side - 1), fill=colour)


def _text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: str, *, weight: int = 0
) -> None:
    room = SIZE[0] - EDGE - place[0]
    draw.text(place, _cut(text, size, room), colour, _font(size), stroke_width=weight, stroke_fill=colour)


def _wrapped(text: str, size: int, room: int) -> list[str]:
    """Return a text in lines that have room."""
    lines: list[str] = []
    for word in text.split():
        if lines and _font(size).getlength(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _cut(text: str, size: int, room: int) -> str:
    font = _font(size)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the typeface that comes with Pillow, so that every machine draws the same picture."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
