import io
import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.record_factory import make_card, make_cards, make_cell, make_record, realistic_board
from vitptq.bench.board.board import Board
from vitptq.bench.board.exports import FORMATS, columns, latex_escape, number, plain, reason, render, status
from vitptq.bench.errors import UnknownName


@pytest.fixture(scope="module")
def board():
    return realistic_board()


def board_of(*records, cards=None):
    return Board.from_records(records, make_cards() if cards is None else cards)


def read_csv(board):
    return pd.read_csv(io.StringIO(render(board, "csv")), keep_default_na=False, na_values=[""])


def braces_balance(text):
    depth = 0
    bare = text.replace(r"\{", "").replace(r"\}", "")
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    return depth == 0


def test_csv_parses_back_with_every_row_and_plain_numbers(board):
    frame = read_csv(board)

    assert len(frame) == len(board.rows)
    assert list(frame.columns) == list(columns(board.rows[0]))
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


def test_latex_is_one_complete_table_per_model(board):
    text = render(board, "latex")

    assert braces_balance(text)
    for part in (r"\begin{table}", r"\end{table}", r"\toprule", r"\midrule", r"\bottomrule", r"\caption{", r"\label{"):
        assert text.count(part) >= len(board.tables), part
    assert r"vit\_mini" in text


def test_latex_rows_have_as_many_cells_as_columns(board):
    for line in render(board, "latex").splitlines():
        if line.endswith(r"\\") and "multicolumn" not in line:
            assert line.replace(r"\&", "").count("&") == 4


def test_latex_is_bold_only_where_no_interval_overlaps():
    far = board_of(make_record(make_cell(method="omse"), score=90.0), make_record(score=80.0))
    near = board_of(make_record(make_cell(method="omse"), score=80.1), make_record(score=80.0))

    assert render(far, "latex").count(r"\textbf") == 1
    assert r"\textbf" not in render(near, "latex")


def test_latex_says_when_an_interval_rests_on_one_seed():
    assert "covers the images only" in render(board_of(make_record()), "latex")
    both = [make_record(make_cell(seed=s)) for s in (0, 1)]
    assert "covers the images only" not in render(board_of(*both), "latex")


def test_latex_of_a_float_model_alone_is_complete():
    assert braces_balance(render(board_of(make_record(make_cell(method="float", bits="W32A32"))), "latex"))


@given(st.text())
def test_escaped_latex_has_balanced_braces_and_no_bare_specials(text):
    escaped = latex_escape(text)

    assert braces_balance(escaped)
    assert "\n" not in escaped
    bare = escaped
    for command in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}", r"\{", r"\}", r"\$", r"\&"):
        bare = bare.replace(command, "")
    for command in (r"\#", r"\%", r"\_", r"\textless{}", r"\textgreater{}", r"\textbar{}"):
        bare = bare.replace(command, "")
    assert not set(bare) & set("\\{}$&#%_~^")


@given(st.text())
def test_plain_text_is_one_printable_line(text):
    assert all(c.isprintable() or c == "�" or not c.isascii() for c in plain(text))
    assert len(plain(text).splitlines()) <= 1


def test_the_text_table_is_aligned_and_names_what_does_not_count(board):
    text = render(board, "table")
    block = text.split("\n\n")[0].splitlines()

    assert block[0] == "classification/mini · mobilevit_mini · Top-1 accuracy, percent"
    assert len({line.index(cell) for line, cell in [(block[1], "bits"), (block[3], "float"), (block[4], "W8A8")]}) == 1
    assert "not counted: EMA W6A6 seed 0" in text
    assert "no score: RepQ-ViT W3A3 seed 2: unsupported" in text


def test_the_text_table_lets_no_name_move_the_cursor():
    text = render(board_of(make_record(), cards={"minmax": make_card("minmax", title="a\x1b[2Jb")}), "table")

    assert "\x1b" not in text


def test_the_text_table_of_an_empty_board_says_what_to_do():
    assert "vitptq run" in render(board_of(), "table")


def test_an_unknown_format_lists_the_known_ones(board):
    with pytest.raises(UnknownName, match="csv, json, latex, markdown, table"):
        render(board, "xml")


@pytest.mark.parametrize("name", FORMATS)
def test_every_export_ends_with_a_newline(board, name):
    assert render(board, name).endswith("\n")


def test_numbers_have_six_decimals_and_no_minus_zero():
    assert number(1 / 3) == 0.333333
    assert str(number(-1e-9)) == "0.0"
    assert number(None) is None
    assert number(33_792_000_000.0) == 33_792_000_000


def test_a_row_tells_its_status_and_its_reasons():
    rows = board_of(make_record(make_cell(seed=0)), make_record(make_cell(seed=1), failure="hung")).rows

    assert status(rows[0]) == "incomplete"
    assert reason(rows[0]) == "seed 1: hung: hung on purpose"
