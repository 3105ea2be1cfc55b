"""What pages are made from."""

from tests.bench.board_factory import board_of, finished
from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.board.board import Board
from vitptq.bench.website.page import Content


def test_the_year_is_that_of_the_newest_record():
    board = board_of(make_record(provenance=finished(3)), make_record(make_cell(bits="W8A8")))

    assert Content(board).year == 2026
    assert Content(Board.from_records([], {})).year is None


def test_the_float_model_is_no_method_in_the_charts():
    board = board_of(make_record(), make_record(make_cell(method="float", bits="W32A32")))

    assert list(Content(board).style) == ["minmax"]
