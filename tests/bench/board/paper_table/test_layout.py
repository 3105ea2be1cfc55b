"""What a paper's comparison table holds."""

from __future__ import annotations

import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_cell, make_detection_records, make_record, realistic_board
from vitptq.bench.bits import BitSpec
from vitptq.bench.board.paired_comparison import Reference
from vitptq.bench.board.paper_table.layout import Choice, paper_table
from vitptq.bench.errors import BadInput, UnknownName


def test_rows_columns_and_sections_are_those_chosen_in_their_order():
    board = realistic_board()
    choice = Choice(
        methods=(Reference.parse("omse"), Reference.parse("minmax")),
        models=("swin_mini", "vit_mini"),
        bits=(BitSpec.parse("W4A4"), BitSpec.parse("W8A8")),
    )
    table = paper_table(board, choice)
    assert table.models == ("swin_mini", "vit_mini")
    assert [section.title for section in table.sections] == ["Float", "W4A4", "W8A8"]
    assert [line.label for line in table.sections[1].lines] == ["OMSE", "MinMax"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(models=("vit_mni",)), 'unknown model in these results "vit_mni"'),
        (Choice(methods=(Reference.parse("minmx"),)), 'did you mean "minmax"'),
        (Choice(bits=(BitSpec.parse("W2A2"),)), 'unknown bits in these results "W2A2"'),
        (Choice(metrics=("box_ap",)), 'unknown metric of these results "box_ap"'),
    ],
)
def test_choice_that_is_not_there_is_one_sentence(choice, words):
    with pytest.raises(UnknownName, match=words):
        paper_table(realistic_board(), choice)


def test_detectors_have_box_and_mask_columns():
    table = paper_table(board_of(*make_detection_records()), Choice())
    assert table.metrics == ("Box AP", "Mask AP")
    assert [value.score for value in table.sections[1].lines[0].values] == [42.0, 38.0]


def test_two_tasks_do_not_share_a_table():
    board = board_of(make_record(), *make_detection_records())
    with pytest.raises(BadInput, match="choose with --only task="):
        paper_table(board, Choice())


def test_only_what_stands_out_is_best_and_what_ties_is_marked():
    far = board_of(make_record(make_cell(method="omse"), score=90.0), make_record(score=80.0))
    near = board_of(make_record(make_cell(method="omse"), score=80.1), make_record(score=80.0))
    assert [value.best for value in paper_table(far, Choice()).values].count(True) == 1
    values = paper_table(near, Choice()).values
    assert not any(value.best for value in values)
    assert [value.tied for value in values].count(True) == 2


def test_row_that_was_not_measured_on_a_model_is_empty_there():
    other = make_cell(model="swin_mini", checkpoint="x", method="omse")
    table = paper_table(board_of(make_record(), make_record(other)), Choice(floats=False))
    scores = {line.label: [value.score for value in line.values] for line in table.sections[0].lines}
    assert scores == {"MinMax": [None, 80.0], "OMSE": [80.0, None]}
