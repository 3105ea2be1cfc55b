"""Earlier states on the site."""

from __future__ import annotations

from tests.bench.nightly.test_failing import at
from tests.bench.record_factory import make_cards, measured
from tests.bench.site_reader import build_site
from vitptq.bench.board.board import Board
from vitptq.bench.results.history import thing
from vitptq.bench.website.past import NO_PAST, Past
from vitptq.bench.website.paths import method_path, run_path

RECORDS = [at(1, score=80.0), at(2, score=78.06)]
PAST = Past((), {thing(RECORDS[0].cell): measured(RECORDS)})


def test_row_finds_its_history():
    (row,) = Board.from_records(RECORDS, make_cards()).rows
    assert [line.score for line in PAST.of(row).measured] == [78.06, 80.0]
    assert NO_PAST.of(row) is None


def test_history_is_on_the_pages_of_run_and_method(tmp_path):
    board = Board.from_records(RECORDS, make_cards())
    pages = build_site(board, tmp_path / "site", past=PAST)
    run = pages[run_path(board.rows[0])]
    assert "from 80.00 at 0000001 to 78.06 at 0000002" in run.text
    assert "2 records, newest first" in run.text
    assert run.html.count('class="chart wide"') == 1
    assert "from 80.00 at 0000001 to 78.06 at 0000002" in pages[method_path("minmax")].text


def test_without_a_past_nothing_is_said_of_one(tmp_path):
    board = Board.from_records(RECORDS[:1], make_cards())
    assert "History" not in build_site(board, tmp_path / "site")[run_path(board.rows[0])].text
