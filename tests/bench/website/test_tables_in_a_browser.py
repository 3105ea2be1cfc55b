"""Sorting and filtering in headless Chromium; skipped where there is none. `CHROMIUM` names another one."""

import os
import re
import shutil
import subprocess

import pytest

from tests.bench.record_factory import make_card, make_cell, make_record
from tests.bench.site_reader import build_site
from vitptq.bench.board.board import Board
from vitptq.bench.website.paths import table_path

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
SCORES = {"beta": 70.0, "Alpha": 60.0, "gamma": 65.0, "Delta": 75.0}

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: set CHROMIUM to its program")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    cells = [make_cell(method=name, bits=bits) for name in SCORES for bits in ("W8A8", "W4A4")]
    records = [make_record(cell, score=SCORES[cell.method]) for cell in cells]
    board = Board.from_records(records, {name: make_card(name) for name in SCORES})
    build_site(board, folder)
    return folder / table_path(board.tables[0])


def dom(page, fragment=""):
    """Return the page as a browser shows it, after its scripts."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    profile = f"--user-data-dir={page.parent.parent.with_name('profile')}"
    shown = subprocess.run(
        [*command, profile, f"{page.as_uri()}#{fragment}"], capture_output=True, text=True, timeout=120, check=True
    )
    return shown.stdout


def names(html, section):
    """Return the methods in the rows that are shown."""
    body = re.search(rf'aria-labelledby="{section}">.*?</section>', html, re.DOTALL)[0]
    return re.findall(r'<tr><th scope="row"><a[^>]*>([^<]+)', body.replace("<tr>\n<th", "<tr><th"))


def test_the_fragment_sorts_whatever_the_case_and_filters_by_row_and_group(page):
    html = dom(page, "sort.scores=-method&find.details=w4a4%20-gamma&nonesuch=1&sort.details=score")

    assert names(html, "scores") == ["gamma", "Delta", "beta", "Alpha"]
    assert names(html, "details") == ["Alpha", "beta", "Delta"]
    assert "3 of 8 rows" in html
