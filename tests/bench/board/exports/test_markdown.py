import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_card, make_detection_records, make_record
from vitptq.bench.board.exports.formats import render
from vitptq.bench.board.exports.markdown import markdown
from vitptq.bench.board.image_noise import NoImageNoise


def test_markdown_has_every_secondary_score_behind_the_ranking_one():
    lines = render(board_of(*make_detection_records(seeds=2), noises=NoImageNoise()), "markdown").splitlines()

    assert lines[0] == r"**mask\_rcnn** (coco/mini), Box AP / Mask AP, float 46.00 / 41.60"
    assert lines[-1] == "| MinMax | 42.00 ± 0.00 / 38.00 ± 0.00 (2) |"


def test_markdown_of_a_task_with_one_metric_names_none():
    assert render(board_of(make_record()), "markdown").startswith(r"**vit\_mini** (classification/mini), float not")


@pytest.mark.parametrize("text", ["a|b", "<b>", "*x*", "[a](b)", "`c`"])
def test_text_in_markdown_is_printed_as_it_is(text):
    line = render(board_of(make_record(), cards={"minmax": make_card("minmax", title=text)}), "markdown").splitlines()[
        -1
    ]

    assert line.startswith(f"| {markdown(text)} | 80.00")
    assert line.replace(r"\|", "").count("|") == 3
