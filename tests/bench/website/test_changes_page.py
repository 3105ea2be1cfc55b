"""The page of what changed, and its feed."""

import xml.etree.ElementTree as ET

import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_card, make_cards, make_cell, make_record
from tests.bench.site_reader import build_site, words
from tests.bench.website.test_changes import measured
from vitptq.bench.results.history import thing
from vitptq.bench.website.past import Past
from vitptq.bench.website.paths import run_path

ATOM = "{http://www.w3.org/2005/Atom}"


def site_of(records, folder, title="MinMax", **options):
    board = board_of(make_record(), cards=make_cards() | {"minmax": make_card("minmax", title=title)})
    return build_site(board, folder, past=Past((), {records[0].thing: records}), **options), board


def test_the_page_lists_moves_and_counts_new_rows(tmp_path):
    site, _ = site_of([measured(1), measured(2, 79.0)], tmp_path / "out")
    text = words(site["changes.html"])

    assert "2026-01-02MinMaxvit_mini classification, miniW4A4 moved80.0079.00 −1.00" in text
    assert "2026-01-01 MinMax on classification, mini: 1 row" in text


def test_the_feed_is_atom_with_tags_from_cells_and_times_from_records(tmp_path):
    _, board = site_of([measured(1), measured(2, 79.0)], tmp_path / "out", base_url="https://example.org/board")
    feed = ET.parse(tmp_path / "out" / "feed.xml").getroot()
    entries = feed.findall(f"{ATOM}entry")

    assert feed.findtext(f"{ATOM}updated") == "2026-01-02T03:00:00Z"
    assert [e.findtext(f"{ATOM}id") for e in entries] == [
        f"tag:vitptq.invalid,2026:cell/id0/2026-01-0{day}T03:00:00Z" for day in (2, 1)
    ]
    assert entries[0].find(f"{ATOM}link").get("href") == f"https://example.org/board/{run_path(board.rows[0])}"
    assert feed.find(f"{ATOM}link[@rel='self']").get("href") == "https://example.org/board/feed.xml"
    assert "80.00 to 79.00" in entries[0].findtext(f"{ATOM}title")


@pytest.mark.parametrize("title", ["<b>&amp;", "a\x00b\x1b", "]]>"])
def test_hostile_names_leave_the_feed_well_formed(title, tmp_path):
    site_of([measured(1)], tmp_path / "out", title=title)
    feed = ET.parse(tmp_path / "out" / "feed.xml").getroot()

    assert len(feed.findall(f"{ATOM}entry")) == 1


def test_rows_that_are_not_on_the_board_are_left_out(tmp_path):
    other = thing(make_cell(model="swin_mini"))
    site, _ = site_of([measured(1, thing=other)], tmp_path / "out")

    assert "Nothing." in words(site["changes.html"])


def test_without_a_history_there_is_neither_page_nor_feed(site, folder):
    assert "changes.html" not in site and not (folder / "feed.xml").exists()
    assert "feed.xml" not in site["index.html"].html
