"""A paper's comparison table in LaTeX, Markdown, CSV and HTML."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess

import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_cell, make_detection_records, make_record, realistic_board
from vitptq.bench.board.paper_table.formats import FORMATS, MARKDOWN, Style, as_csv, as_latex, render, value_text
from vitptq.bench.board.paper_table.layout import Choice, Value, paper_table
from vitptq.bench.board.paper_table.published import published_table
from vitptq.bench.results import claim_names, claims

PREAMBLE = r"""\documentclass[%s]{article}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
%s
\end{document}
"""


def tables():
    own = published_table("aphq-vit:table1", claims.read(), claim_names.read(claims.FOLDER))
    many = paper_table(realistic_board(), Choice())
    return {"measured": many, "published": own, "detector": paper_table(board_of(*make_detection_records()), Choice())}


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_every_method(format):
    text = render(paper_table(realistic_board(), Choice()), format, Style())
    assert not [title for title in ("MinMax", "OMSE", "Percentile") if title not in text]


def test_csv_is_read_back_as_numbers():
    table = paper_table(board_of(make_record(score=81.237)), Choice(floats=False))
    rows = list(csv.DictReader(io.StringIO(as_csv(table, Style(decimals=1)))))
    assert rows[0]["method"] == "MinMax"
    assert float(rows[0]["vit_mini"]) == 81.2
    assert float(rows[0]["vit_mini half interval"]) > 0


@pytest.mark.parametrize(
    ("claims", "text"), [("none", "80.00"), ("beside", r"80.00 \[17.77–71.84\]"), ("instead", r"\[17.77–71.84\]")]
)
def test_published_numbers_are_marked(claims, text):
    value = Value(score=80.0, claimed=(17.77, 21.24, 71.84))
    assert value_text(value, Style(claims=claims), MARKDOWN) == text


def test_caption_promises_only_what_the_table_has():
    one = as_latex(paper_table(board_of(make_record()), Choice()), Style())
    assert "one seed" in one
    assert "Bold" not in one
    assert "published" not in one
    assert "half of" not in as_latex(paper_table(board_of(make_record()), Choice()), Style(intervals=False))


def test_text_of_methods_and_captions_is_escaped():
    table = paper_table(board_of(make_record(make_cell(method="<b>&_"))), Choice())
    assert "<b>" not in render(table, "html", Style(caption="<i>"))
    assert r"\textless{}b\textgreater{}\&\_" in render(table, "latex", Style())


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("name", ["measured", "published", "detector"])
@pytest.mark.parametrize(("options", "wide"), [("onecolumn", False), ("twocolumn", False), ("twocolumn", True)])
def test_latex_compiles_without_overfull_boxes(tmp_path, name, options, wide):
    text = as_latex(tables()[name], Style(claims="beside", wide=wide))
    (tmp_path / "paper.tex").write_text(PREAMBLE % (options, text))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-800:]
    assert "Overfull" not in done.stdout
