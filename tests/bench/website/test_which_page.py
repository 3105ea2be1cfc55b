"""The page of answers."""

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_cell, make_record
from tests.bench.site_reader import build_site, section


def test_the_page_names_every_method_that_is_not_shown_to_be_worse(tmp_path):
    scores = {"omse": 90.0, "ema": 89.9, "minmax": 80.0}
    board = board_of(*(make_record(make_cell(method=name), score=score) for name, score in scores.items()))
    answers = section(build_site(board, tmp_path / "out")["which.html"].html, "answers")

    assert "OMSE" in answers and "EMA" in answers and "MinMax" not in answers
