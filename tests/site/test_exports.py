"""Exports of what a table shows."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.site.conftest import Visit
from tests.site.test_tables import menu, names, rows, section

VIEW = "#keep.details.section=W4A4~W3A3&keep.details.score=75..&hide.details=rank,nonesuch,method&sort.details=-score"


@pytest.fixture
def table(site: Path) -> str:
    """Return the path of the page of a model with many rows."""
    (path,) = (site / "tables").glob("*vit-mini.html")
    return path.relative_to(site).as_posix()


def exported(page: Page, name: str, format: str) -> str:
    if not section(page, name).locator("textarea").is_visible():
        menu(page, name, "Export")
    section(page, name).get_by_role("button", name=format, exact=True).click()
    return section(page, name).locator("textarea").input_value()


def test_a_row_that_spans_columns_gets_narrower_by_those_that_go(visit: Visit, table: str) -> None:
    page = visit(f"{table}#hide.scores=w6a6,w4a4")
    widths = (
        section(page, "scores")
        .locator("tr")
        .evaluate_all(
            "all => all.map(row => Array.from(row.cells).filter(c => !c.hidden).reduce((sum, c) => sum + c.colSpan, 0))"
        )
    )
    assert set(widths) == {3}


def test_csv_has_one_line_of_plain_values_per_row_that_is_shown(visit: Visit, table: str) -> None:
    page = visit(table + VIEW)
    lines = list(csv.DictReader(io.StringIO(exported(page, "details", "CSV"))))

    assert [line["Method"] for line in lines] == names(page, "details")
    assert {line["Section"] for line in lines} == {"W4A4", "W3A3"}
    assert all(float(line["Score"]) >= 75 > 0 > float(line["Drop"]) for line in lines)
    assert all(float(line["95 % interval, low"]) < float(line["95 % interval, high"]) for line in lines)
    assert "Rank" not in lines[0]


def test_csv_has_what_stands_below_a_score_as_columns(visit: Visit, table: str) -> None:
    page = visit(table)
    float_line, first, *_ = csv.DictReader(io.StringIO(exported(page, "scores", "CSV")))

    assert float(float_line["W8A8"]) > float(first["W8A8"]) > 0 > float(first["W8A8 drop"])
    assert first["W8A8 group"].isalpha()


def test_latex_is_a_whole_table_in_which_nothing_tied_is_bold(visit: Visit, table: str) -> None:
    page = visit(table)
    text = exported(page, "scores", "LaTeX")

    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\end{table}") == 1
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert not re.search(r"\\textbf\{[^}]*\\ast", text)
    body = text.split(r"\midrule")[1]
    assert body.count(r" \\") == len(rows(page, "scores"))


def test_markdown_has_as_many_cells_in_every_line(visit: Visit, table: str) -> None:
    page = visit(table + VIEW)
    lines = [line for line in exported(page, "details", "Markdown").splitlines() if line.startswith("|")]

    assert len(lines) == 2 + len(rows(page, "details"))
    assert len({line.count("|") for line in lines}) == 1


def test_bibtex_has_the_papers_of_the_rows_that_are_shown_and_the_board(visit: Visit, site: Path) -> None:
    page = visit(max((site / "claims").glob("*.html"), key=lambda p: p.stat().st_size).relative_to(site).as_posix())
    page.get_by_text("Export", exact=True).click()
    page.get_by_role("button", name="BibTeX").click()
    whole = page.locator("textarea").input_value()
    page.get_by_role("searchbox").fill("nothing has these words")
    none = page.locator("textarea").input_value()

    assert whole.count("@") > none.count("@") > 0
    assert "@misc{vitptq," in none


@pytest.mark.parametrize("format", ["CSV", "LaTeX", "Markdown", "BibTeX"])
def test_every_export_says_from_which_data_and_view_it_is(visit: Visit, table: str, format: str) -> None:
    page = visit(table + VIEW)
    text = exported(page, "details", format).replace("\\", "").replace("{}", "")
    data = page.locator("footer.site").get_attribute("data-data")

    assert data and data in text
    assert f"{table}#" in text and "keep.details.score=75.." in text.replace("textasciitilde", "~")
    assert "Score from 75" in text


def test_an_export_is_saved_as_a_file_and_selected_where_the_clipboard_is_refused(visit: Visit, table: str) -> None:
    page = visit(table)
    text = exported(page, "details", "CSV")
    with page.expect_download() as download:
        section(page, "details").get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith("details-and-costs.csv")
    assert download.value.path().read_text(encoding="utf-8") == text

    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }")
    section(page, "details").locator(".export").get_by_role("button", name="Copy").click()
    expect(page.locator("#announcer")).to_contain_text("Selected")
