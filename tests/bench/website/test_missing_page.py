"""The page of what is missing."""

from tests.bench.record_factory import (
    make_cards,
    make_cell,
    make_record,
)
from tests.bench.site_reader import build_site, section
from vitptq.bench.board.board import Board
from vitptq.bench.website.paths import table_path


def test_failed_cells_are_rows_with_their_reason(site):
    text = site["missing.html"].text

    assert "unsupported on purpose" in text
    assert "ValueError: on purpose" in text
    assert "out of memory" in text


def test_a_hole_is_listed_as_not_run(tmp_path):
    records = [make_record(make_cell(bits="W8A8")), make_record(), make_record(make_cell(method="omse"))]
    site = build_site(Board.from_records(records, make_cards()), tmp_path / "out")

    assert "OMSE" in section(site["missing.html"].html, "holes")
    assert "not run" in site[table_path(Board.from_records(records, {}).tables[0])].text
