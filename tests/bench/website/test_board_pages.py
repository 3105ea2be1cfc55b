"""The full tables."""

from tests.bench.record_factory import make_detection_records
from tests.bench.site_reader import build_site, section, words
from vitptq.bench.board.board import Board
from vitptq.bench.website.paths import board_path, run_path


def test_the_board_leads_to_a_full_table_of_every_row_that_counts(board, site):
    (page,) = {path for path in site if path.startswith("boards/")}
    rows = section(site[page].html, "rows")

    assert page == board_path("classification", "mini")
    assert page in site["board.html"].values("href")
    counted = [row for row in board.rows if row.counted]
    assert len(counted) > 60
    assert all(run_path(row) in rows for row in counted)


def test_a_secondary_score_has_its_column(tmp_path):
    site = build_site(Board.from_records(make_detection_records(), {}), tmp_path / "out")
    page = site[board_path("coco", "mini")]

    assert "Mask AP" in section(page.html, "rows") and "38.00" in section(page.html, "rows")
    assert "Mask AP 38.00 (−3.60)" in words(page)
