"""The list of methods."""

import re

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_card, make_cell, make_record
from tests.bench.site_reader import build_site, words


def test_methods_are_listed_with_how_often_they_are_in_the_first_group(tmp_path):
    scores = {("omse", "W4A4"): 90.0, ("ema", "W4A4"): 80.0, ("omse", "W8A8"): 90.0, ("ema", "W8A8"): 89.95}
    records = [make_record(make_cell(method=m, bits=b), score=score) for (m, b), score in scores.items()]
    html = build_site(board_of(*records), tmp_path / "out")["methods.html"].html
    counts = dict(re.findall(r'">(OMSE|EMA)</a></th>.*?>(\d of \d)</td>', html, re.DOTALL))

    assert counts == {"OMSE": "2 of 2", "EMA": "1 of 2"}


def test_a_paper_that_left_something_open_is_said(tmp_path):
    cards = {"minmax": make_card("minmax", inferred=("the grid",))}

    assert "paper, 1 part inferred" in words(
        build_site(board_of(make_record(), cards=cards), tmp_path / "out")["methods.html"]
    )
