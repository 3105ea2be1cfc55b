"""The first page."""

import re

from tests.bench.board_factory import board_of
from tests.bench.record_factory import (
    make_cell,
    make_record,
)
from tests.bench.site_reader import build_site, words
from vitptq.bench.board.image_noise import NoImageNoise


def test_the_overview_names_every_method_that_is_not_shown_to_be_worse(tmp_path):
    scores = {"omse": 90.0, "ema": 89.9, "minmax": 80.0}
    board = board_of(*(make_record(make_cell(method=name), score=score) for name, score in scores.items()))
    overview = words(build_site(board, tmp_path / "out")["index.html"])

    assert "90.00−4.10 · OMSE and EMA tie" in overview


def test_the_overview_claims_no_winner_without_evidence(tmp_path):
    board = board_of(make_record(), make_record(make_cell(method="omse"), score=70.0), noises=NoImageNoise())

    assert "· MinMax, not compared" in words(build_site(board, tmp_path / "out")["index.html"])


def test_the_overview_tells_what_was_not_run_from_what_does_not_count(tmp_path):
    other = {"model": "swin_mini"}
    records = [make_record(), make_record(make_cell(bits="W8A8"), failure="raised"), make_record(make_cell(**other))]
    site = build_site(board_of(*records, make_record(make_cell(bits="W8A8", method="omse", **other))), tmp_path / "out")
    first, second = (re.search(rf"{name}.*?</tr>", site["index.html"].html, re.DOTALL)[0] for name in ("vit_", "swin_"))

    assert "none counts" in first and "not run" not in first.split("</td>", 1)[1]
    assert "none counts" not in second
