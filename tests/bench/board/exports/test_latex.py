import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_cell, make_detection_records, make_record, realistic_board
from vitptq.bench.board.exports.formats import render
from vitptq.bench.board.exports.latex import latex_escape
from vitptq.bench.board.image_noise import NoImageNoise
from vitptq.bench.contracts.task import Metric


@pytest.fixture(scope="module")
def board():
    return realistic_board()


def braces_balance(text):
    depth = 0
    bare = text.replace(r"\{", "").replace(r"\}", "")
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    return depth == 0


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


def test_latex_is_bold_where_one_row_is_better_than_all_and_marks_ties():
    far = board_of(make_record(make_cell(method="omse"), score=90.0), make_record(score=80.0))
    near = board_of(make_record(make_cell(method="omse"), score=80.1), make_record(score=80.0))

    assert render(far, "latex").count(r"\textbf") == 1
    assert r"\textbf" not in render(near, "latex")
    assert render(near, "latex").count(r"$^{\ast}$") == 3  # both rows, and what it means


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


def test_latex_has_a_column_for_every_secondary_score():
    text = render(board_of(*make_detection_records(), noises=NoImageNoise()), "latex")

    assert r"Method & Box AP & Mask AP \\" in text
    assert r"& \multicolumn{2}{c}{W4A4} \\" in text
    assert r"Float & \multicolumn{2}{c}{46.00 / 41.60} \\" in text
    assert r"MinMax & 42.00$^{1}$ & 38.00 \\" in text
    assert "IoU 0.50" not in text


def test_latex_escapes_the_titles_of_metrics():
    odd = (Metric("top1", "50% of A_1 {x}", ranks=True), Metric("b", r"\input{secret} & #1"))
    text = render(board_of(make_record(scores={"top1": 80.0, "b": 70.0}, metrics=odd)), "latex")

    assert braces_balance(text)
    assert r"50\% of A\_1 \{x\}" in text and r"\textbackslash{}input\{secret\} \& \#1" in text
    assert r"\input" not in text
