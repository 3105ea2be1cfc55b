import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_card, make_detection_records, make_record, realistic_board
from vitptq.bench.board.exports.formats import render


@pytest.fixture(scope="module")
def board():
    return realistic_board()


def test_the_text_table_is_aligned_and_names_what_does_not_count(board):
    text = render(board, "table")
    block = text.split("\n\n")[0].splitlines()

    assert block[0] == "classification/mini · mobilevit_mini · Top-1 accuracy, percent"
    column = block[1].index("bits")
    assert [line[column:].split("  ")[0] for line in (block[3], block[4])] == ["not quantised", "W8A8"]
    assert "not counted: EMA W6A6 32 images seed 0" in text
    assert "no score: RepQ-ViT W3A3 32 images seed 2: unsupported" in text


def test_the_text_table_lets_no_name_move_the_cursor():
    text = render(board_of(make_record(), cards={"minmax": make_card("minmax", title="a\x1b[2Jb")}), "table")

    assert "\x1b" not in text


def test_the_text_table_of_an_empty_board_says_what_to_do():
    assert "vitptq run" in render(board_of(), "table")


def test_the_text_table_has_a_column_for_every_secondary_score():
    title, header, _, reference, quantised = render(board_of(*make_detection_records()), "table").splitlines()[:5]

    assert title == "coco/mini · mask_rcnn · Box AP, percent"
    end = header.index("Mask AP") + len("Mask AP")
    assert [line[end - 5 : end] for line in (reference, quantised)] == ["41.60", "38.00"]
