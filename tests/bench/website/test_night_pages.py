"""The pages of the nights."""

from __future__ import annotations

import pytest

from tests.bench.nightly.test_report import planted_report
from tests.bench.record_factory import make_cards, make_record
from tests.bench.site_reader import build_site
from vitptq.bench.board.board import Board
from vitptq.bench.nightly.report import Report
from vitptq.bench.website.nights import NightPage
from vitptq.bench.website.past import Past
from vitptq.bench.website.paths import run_path

RECORD = make_record()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    board = Board.from_records([RECORD], make_cards())
    line = planted_report().lines[0].model_copy(update={"records": (RECORD.id,)})
    worse = planted_report().model_copy(update={"lines": (line,)})
    quiet = Report(title="Quiet <night>", lines=(), unchanged=4, notes=("<b>note</b>",))
    nights = (NightPage("2026-12-02-013000", worse), NightPage("2026-12-01-013000", quiet))
    return build_site(board, tmp_path_factory.mktemp("nights") / "site", past=Past(nights)), board


def test_index_lists_the_nights_newest_first(site):
    pages, _ = site
    addresses = [link["href"] for link in pages["nights.html"].all("a") if link["href"].startswith("nights/")]
    assert addresses == ["nights/2026-12-02-013000.html", "nights/2026-12-01-013000.html"]
    assert "WORSE score moved" in pages["nights.html"].text


def test_navigation_has_the_nights_where_there_are_some(site, tmp_path):
    assert 'href="nights.html"' in site[0]["index.html"].html
    assert "nights" not in build_site(site[1], tmp_path / "out")["index.html"].html


def test_night_begins_with_its_worst_regression_and_leads_to_the_run(site):
    pages, board = site
    page = pages["nights/2026-12-02-013000.html"]
    assert "<h1>WORSE score moved, time moved: classification/mini vit_mini minmax W4A4" in page.html
    assert f"../{run_path(board.rows[0])}" in page.values("href")
    assert "../nights/2026-12-01-013000.html" in page.values("href")


def test_words_of_others_are_escaped(site):
    page = site[0]["nights/2026-12-01-013000.html"]
    assert "<night>" not in page.html
    assert "<b>note" not in page.html
