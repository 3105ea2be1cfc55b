"""Pages of models."""

from tests.bench.board_factory import board_of
from tests.bench.record_factory import (
    make_cards,
    make_cell,
    make_detection_records,
    make_gate,
    make_record,
)
from tests.bench.site_reader import build_site, row_named, section, table_named, words
from vitptq.bench.board.board import Board
from vitptq.bench.website.paths import run_path, table_path


def test_gate_failed_rows_stand_apart_from_the_main_tables(board, site):
    html = site[table_path(table_named(board, "mobilevit_mini"))].html
    refused = row_named(board, model="mobilevit_mini", method="ema", bits="W6A6")
    details, apart = (section(html, name) for name in ("details", "apart"))

    assert run_path(refused) not in details
    assert run_path(refused) in apart
    assert "9.90 points from the reference" in apart
    assert f"{refused.apart[0].scores['top1']:.2f}" not in section(html, "scores")


def test_a_score_apart_shows_its_secondary_scores_too(tmp_path):
    records = [r.model_copy(update={"gate": make_gate(passed=False)}) for r in make_detection_records()[1:]]
    board = Board.from_records(records, make_cards())
    html = section(build_site(board, tmp_path / "out")[table_path(board.tables[0])].html, "apart")

    assert "42.00" in html and "38.00" in html


def test_ranks_are_intervals_with_their_group_and_say_what_they_rest_on(tmp_path):
    scores = {"omse": 90.0, "ema": 89.9, "minmax": 80.0}
    board = board_of(*(make_record(make_cell(method=name), score=score) for name, score in scores.items()))
    site = build_site(board, tmp_path / "out")
    (table,) = board.tables

    details = " ".join(section(site[table_path(table)].html, "details").split())
    assert details.count("1–2") == 2 and '<td class="n" data-value="3">3</td> <td>B</td>' in details
    assert "With one calibration draw: McNemar" in details
    assert "1–2 of 3, group A" in words(site[run_path(row_named(board, method="ema"))])
