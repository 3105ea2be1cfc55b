"""The score of every method, one panel per bit width."""

import itertools

import pytest

from tests.bench.record_factory import make_cards, make_cell, make_record, realistic_board
from vitptq.bench.board.board import Board
from vitptq.bench.website import dot_plots
from vitptq.bench.website.dot_plots import LEFT, LINE, RIGHT, STRIP_BASE, STRIP_TOP, panels, strip


@pytest.fixture(scope="module")
def tables():
    return realistic_board().tables


def table_of(*records):
    return Board.from_records(records, make_cards()).tables[0]


def test_every_counted_score_is_a_dot_within_its_panel(tables):
    for table in tables:
        dots = [dot for panel in panels(table) for dot in panel.dots]

        assert len(dots) == len(table.dense)
        assert all(LEFT <= dot.low <= dot.x <= dot.high <= RIGHT for dot in dots)


def test_names_keep_apart_with_thirty_methods():
    records = [make_record(make_cell(method=f"m{i:02}"), score=60 + i / 10) for i in range(30)]
    (panel,) = panels(table_of(*records))

    assert [b.y - a.y for a, b in itertools.pairwise(panel.dots)] == pytest.approx([LINE] * 29)
    assert [dot.row.label for dot in panel.dots] == [f"m{i:02}" for i in reversed(range(30))]
    assert panel.dots[-1].y + LINE < panel.height


def test_the_band_is_behind_the_methods_of_the_first_group_alone(tables):
    for panel in (panel for table in tables for panel in panels(table)):
        banded = {dot.row.id for dot in panel.dots for top, height in panel.bands if top < dot.y < top + height}

        assert banded == {dot.row.id for dot in panel.dots if dot.group == "A"} != set()


def test_a_row_that_was_not_compared_has_no_letter():
    (panel,) = panels(table_of(make_record(violations=["off its grid"]), make_record(make_cell(method="omse"))))

    assert {dot.row.cell.method: dot.group for dot in panel.dots}["minmax"] == ""


def test_a_counted_row_that_lacks_the_ranking_score_is_not_drawn():
    odd = make_record(make_cell(method="omse"), scores={"theirs": 80.0})

    assert panels(table_of(odd)) == ()
    assert [dot.label for dot in panels(table_of(odd, make_record()))[0].dots] == ["MinMax"]


def test_nothing_is_drawn_without_a_counted_score():
    assert panels(table_of(make_record(passed=False))) == ()
    assert strip(table_of(make_record(passed=False))) is None


def test_low_rank_rows_are_in_no_chart_of_bit_widths():
    low_rank = make_record(make_cell(bits="W32A32+lowrank60"))

    assert strip(table_of(low_rank)) is None
    assert [panel.title for panel in panels(table_of(low_rank, make_record()))] == ["W4A4"]


def test_the_small_chart_has_every_score_once_and_sets_the_first_group_apart(tables):
    for table in tables:
        small = strip(table)
        heights = [y for _, y in (*small.first, *small.others)]

        assert len(heights) == len(table.dense)
        assert all(STRIP_TOP <= y <= STRIP_BASE for y in heights)
        assert len(small.first) == sum(len(table.winners(bits)) for bits in table.bit_specs)


def test_ids_are_those_of_one_panel_each(tables):
    ids = [panel.id for table in tables for panel in dot_plots.panels(table)]

    assert len(set(ids)) == len(ids)
