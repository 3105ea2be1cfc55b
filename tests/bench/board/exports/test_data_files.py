import io
import json

import pandas as pd
import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_card, make_detection_records, make_record, realistic_board
from vitptq.bench.board.exports.data_files import columns, number
from vitptq.bench.board.exports.formats import render
from vitptq.bench.board.image_noise import NoImageNoise


@pytest.fixture(scope="module")
def board():
    return realistic_board()


def read_csv(board):
    return pd.read_csv(io.StringIO(render(board, "csv")), keep_default_na=False, na_values=[""])


def test_csv_parses_back_with_every_row_and_plain_numbers(board):
    frame = read_csv(board)

    assert len(frame) == len(board.rows)
    assert list(frame.columns) == list(columns(board.tables[0].rows[0], board.tables[0]))
    assert frame["score"].dtype == float
    assert frame["n_seeds"].dtype == int
    counted = [row.score for row in board.rows if row.counted]
    assert frame["score"].dropna().tolist() == pytest.approx(counted, abs=1e-6)
    assert (frame["interval_low"].dropna() <= frame["score"].dropna()).all()


def test_csv_of_an_empty_board_has_its_header():
    assert render(board_of(), "csv").startswith("task,edition,model,method,")


def test_a_row_that_does_not_count_has_no_score_but_a_reason(board):
    frame = read_csv(board)
    row = frame[(frame["model"] == "mobilevit_mini") & (frame["method"] == "ema") & (frame["bits"] == "W6A6")].iloc[0]

    assert row["status"] == "not counted"
    assert pd.isna(row["score"])
    assert "9.90 points from the reference" in row["reason"]


@pytest.mark.parametrize("title", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_text_in_csv_never_starts_a_formula(title):
    frame = read_csv(board_of(make_record(), cards={"minmax": make_card("minmax", title=title)}))

    assert frame["title"][0].startswith("'")
    assert frame["drop"][0] < 0


def test_json_parses_back_with_null_and_every_seed(board):
    document = json.loads(render(board, "json"), parse_constant=pytest.fail)

    assert len(document["rows"]) == len(board.rows)
    failed = next(r for r in document["rows"] if r["status"] == "unsupported")
    assert failed["score"] is None
    assert [run["failure"]["kind"] for run in failed["runs"]] == ["unsupported"] * 3
    refused = next(r for r in document["rows"] if r["status"] == "not counted")
    assert [run["counts"] for run in refused["runs"]] == [False] * 3
    assert all(run["scores"]["top1"] > 0 for run in refused["runs"])


def test_numbers_have_six_decimals_and_no_minus_zero():
    assert number(1 / 3) == 0.333333
    assert str(number(-1e-9)) == "0.0"
    assert number(None) is None
    assert number(33_792_000_000.0) == 33_792_000_000


@pytest.mark.parametrize("title", [" =1+1", "  @SUM(A1)", "\u00a0+1", "\u200b-1", "\ufeff=1", "＝1"])
def test_text_in_csv_never_starts_a_formula_behind_blanks(title):
    frame = read_csv(board_of(make_record(), cards={"minmax": make_card("minmax", title=title)}))

    assert frame["title"][0] == f"'{title}"


def test_text_in_csv_that_is_no_formula_stays_as_it_is():
    frame = read_csv(board_of(make_record(), cards={"minmax": make_card("minmax", title=" a=1")}))

    assert frame["title"][0] == " a=1"


def test_csv_has_columns_for_the_scores_that_do_not_rank():
    frame = read_csv(board_of(make_record(), *make_detection_records(seeds=2), noises=NoImageNoise()))
    detection, classification = frame[frame["task"] == "coco"].iloc[1], frame[frame["task"] != "coco"].iloc[0]

    assert list(frame.columns)[-6:] == [
        "score_box_ap50", "interval_low_box_ap50", "interval_high_box_ap50",
        "score_mask_ap", "interval_low_mask_ap", "interval_high_mask_ap",
    ]  # fmt: skip
    assert (detection["metric"], detection["score"], detection["score_mask_ap"]) == ("box_ap", 42.0, 38.0)
    assert detection["interval_low_mask_ap"] == 38.0  # two equal seeds
    assert pd.isna(classification["score_mask_ap"])


def test_json_has_every_score_with_its_title_and_drop():
    document = json.loads(render(board_of(*make_detection_records()), "json"))
    scores = next(row for row in document["rows"] if row["bits"] == "W4A4")["scores"]

    assert list(scores) == ["box_ap", "box_ap50", "mask_ap"]
    assert (scores["box_ap"]["ranks"], scores["mask_ap"]["ranks"]) == (True, False)
    assert (scores["mask_ap"]["title"], scores["mask_ap"]["score"], scores["mask_ap"]["drop"]) == (
        "Mask AP",
        38.0,
        -3.6,
    )
