"""The question box of the overview."""

import json

import pytest

from tests.bench.board_factory import board_of, row_of
from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.bits import BitSpec
from vitptq.bench.board.image_noise import NoImageNoise
from vitptq.bench.website import question
from vitptq.bench.website.page import Content


def asked(scores, noises=None, **fields):
    records = [make_record(make_cell(method=method, **fields), score=score) for method, score in scores.items()]
    content = Content(board_of(*records, noises=noises))
    return question.replies(content.answers, content.groups)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"omse": 90.0}, "the only method measured"),
        ({"omse": 90.0, "minmax": 80.0}, "better than the one other"),
        ({"omse": 90.0, "minmax": 80.0, "ema": 70.0}, "better than all 2 others"),
        ({"omse": 90.0, "repq_vit": 89.9, "minmax": 80.0}, "2 of 3 methods, which paired tests do not tell apart"),
    ],
)
def test_a_reply_says_what_it_rests_on(scores, said):
    (reply,) = asked(scores)

    assert said in question.about(reply)


def test_without_evidence_nothing_is_called_better():
    (reply,) = asked({"omse": 90.0, "minmax": 80.0}, NoImageNoise())

    assert "the highest mean, compared with no other" in question.about(reply)


def test_the_first_reply_is_of_the_bit_width_with_most_methods():
    cells = [("omse", "W8A8"), ("omse", "W4A4"), ("ema", "W4A4"), ("ema", "W3A3")]
    content = Content(board_of(*(make_record(make_cell(method=method, bits=bits)) for method, bits in cells)))
    found = question.replies(content.answers, content.groups)

    assert question.first_reply(found).bits == BitSpec.parse("W4A4")
    assert question.first_reply(()) is None


def test_answers_beyond_the_bound_are_choices_without_rows(monkeypatch):
    monkeypatch.setattr(question, "MOST_ROWS", 1)
    content = Content(board_of(*(make_record(make_cell(bits=bits)) for bits in ("W8A8", "W4A4", "W3A3"))))
    data = question.as_data(question.replies(content.answers, content.groups))

    assert [len(choice) for choice in data["choices"]] == [6, 3, 3]
    assert json.loads(json.dumps(data)) == data


def test_missing_draws_are_said():
    records = [make_record(make_cell(seed=seed)) for seed in (0, 1)]
    other = make_record(make_cell(method="omse"))

    assert "1 of 2 draws" in list(question.cells(row_of(board_of(*records, other), method="omse")))


@pytest.mark.parametrize("own", ["W32A32+lowrank40", "W4A4+branch"])
def test_a_category_of_its_own_is_not_what_a_model_is_shown_at_first(own):
    scores = {"omse": own, "minmax": own, "ema": "W4A4"}
    records = [make_record(make_cell(method=method, bits=bits), score=80.0) for method, bits in scores.items()]
    (table,) = board_of(*records).tables

    assert question.busiest_bits(table) == BitSpec(4, 4)
