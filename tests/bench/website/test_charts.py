import itertools

import pytest

from tests.bench.record_factory import make_cards, make_cell, make_record, realistic_board
from vitptq.bench.board.board import Board
from vitptq.bench.website import charts

SIZES = (charts.WIDE, charts.NARROW, charts.SMALL)


def drawn(*records, size=charts.WIDE):
    board = Board.from_records(records, make_cards())
    return charts.draw(board.tables[0], charts.styles(sorted(board.cards)), size)


@pytest.mark.parametrize("size", SIZES)
def test_every_counted_score_is_a_point_within_the_plot(size):
    board = realistic_board()
    for table in board.tables:
        drawing = charts.draw(table, charts.styles(sorted(board.cards)), size)
        points = [p for line in drawing.lines for p in line.points]

        assert len(points) == len(table.quantised)
        assert all(size.left <= p.x <= size.right_edge for p in points)
        assert all(size.top <= p.high <= p.y <= p.low <= size.base for p in points)


@pytest.mark.parametrize("size", [charts.WIDE, charts.NARROW])
def test_labels_keep_apart_and_within_the_plot(size):
    scores = [80 + i / 10 for i in range(14)]
    drawing = drawn(*(make_record(make_cell(method=f"m{i}"), score=s) for i, s in enumerate(scores)), size=size)
    heights = sorted([*(line.label_y for line in drawing.lines), drawing.float_label_y])

    assert all(b - a >= charts.LABEL_GAP - 1e-6 for a, b in itertools.pairwise(heights))
    assert heights[-1] <= size.base


def test_a_missing_bit_width_breaks_the_line():
    others = [make_record(make_cell(method="omse", bits=bits)) for bits in ("W8A8", "W6A6", "W4A4")]
    holed = [make_record(make_cell(bits=bits)) for bits in ("W8A8", "W4A4")]
    paths = {line.label: line.path for line in drawn(*others, *holed).lines}

    assert paths["OMSE"].count("M") == 1
    assert paths["MinMax"].count("M") == 2


def test_a_counted_row_that_lacks_the_ranking_score_is_not_drawn():
    odd = make_record(make_cell(method="omse"), scores={"theirs": 80.0})

    assert drawn(odd) is None
    assert [line.label for line in drawn(odd, make_record()).lines] == ["MinMax"]


def test_nothing_is_drawn_without_a_counted_score():
    assert drawn(make_record(passed=False)) is None


def test_a_single_score_has_a_range_to_stand_in():
    drawing = drawn(make_record(scores={"theirs": 80.0}, metrics=()))

    assert len(drawing.ticks) == 2
    assert drawing.float_y is None


def test_long_labels_keep_both_ends():
    assert charts.shorten("Percentile (p=0.999)", 13) == "Percen…0.999)"
    assert charts.shorten("OMSE", 13) == "OMSE"


def test_more_methods_than_colours_still_look_different():
    names = [f"m{i:02}" for i in range(20)]
    drawn = charts.styles(names)

    assert len({(s.colour, s.dash, s.shape) for s in drawn.values()}) == 20


def test_low_rank_rows_are_in_no_chart_of_bit_widths():
    low_rank = make_record(make_cell(bits="W32A32+lowrank60"))

    assert drawn(low_rank) is None
    assert [text for _, text in drawn(low_rank, make_record()).columns] == ["W4A4"]
