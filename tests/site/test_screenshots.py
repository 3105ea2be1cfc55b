"""The pictures for the documents."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests.screenshots import SHOTS, Shot, main, take


def corner(shot: Shot, site: Path, browser: Browser) -> tuple[int, int, int]:
    """Return the colour of the page at its upper left."""
    picture = Image.open(io.BytesIO(take(shot, site, browser)))
    assert picture.size == (shot.width, shot.height)
    red, green, blue = picture.convert("RGB").getpixel((2, 2))
    return red, green, blue


def test_a_picture_has_the_size_and_the_theme_that_were_asked(browser: Browser, site: Path) -> None:
    shot = replace(SHOTS[0], width=390, height=300)
    assert min(corner(shot, site, browser)) > 200
    assert max(corner(replace(shot, scheme="dark"), site, browser)) < 60


def test_every_picture_has_a_page(site: Path) -> None:
    assert not [shot.name for shot in SHOTS if not list(site.glob(shot.page))]


def test_a_folder_without_a_leaderboard_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), str(tmp_path)]) == 2
    assert "holds no leaderboard: build one there with vitptq site" in capsys.readouterr().err
