"""Charts: a method highlighted wherever it is, and pictures to keep."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Page, expect

from tests.site.conftest import Visit

METHOD = "OMSE"
LIT = "all => all.filter(one => one.classList.contains('lit')).map(one => one.dataset.series || one.cells[0].innerText)"


@pytest.fixture
def table(site: Path) -> str:
    """Return the path of the page of a model with many rows."""
    (path,) = (site / "tables").glob("*vit-mini.html")
    return path.relative_to(site).as_posix()


def lit(page: Page, what: str) -> list[str]:
    """Return the methods of the highlighted parts."""
    found: list[str] = page.locator(what).evaluate_all(LIT)
    return found


def test_a_method_is_highlighted_in_every_panel_and_table_while_the_pointer_is_on_it(visit: Visit, table: str) -> None:
    page = visit(table)
    page.locator(f'[data-series="{METHOD}"]').first.hover()
    panels = page.locator("svg.dotplot").count()

    assert lit(page, "[data-series]") == [METHOD] * panels
    assert set(lit(page, "tbody tr")) == {METHOD}
    page.locator("h1").hover()
    assert lit(page, "[data-series]") == []


def test_the_address_highlights_and_the_menu_changes_the_address(visit: Visit, table: str) -> None:
    page = visit(f"{table}#mark={METHOD}~nonesuch")
    assert set(lit(page, "[data-series]")) == {METHOD}
    page.locator("summary", has_text="Highlight").click()
    page.get_by_label("EMA", exact=True).check()

    assert set(lit(visit(table + page.evaluate("location.hash")), "[data-series]")) == {METHOD, "EMA"}


def test_arrow_keys_go_through_the_methods_of_a_panel(visit: Visit, table: str) -> None:
    page = visit(table)
    dots = page.locator("svg.dotplot").first.locator("a.dot")
    dots.first.focus()
    page.keyboard.press("ArrowDown")

    expect(dots.nth(1)).to_be_focused()
    assert set(lit(page, "[data-series]")) == {dots.nth(1).get_attribute("data-series")}
    assert dots.evaluate_all("all => all.filter(dot => dot.tabIndex === 0).length") == 1


def test_a_chart_is_saved_as_a_drawing_with_its_colours_data_and_view(visit: Visit, table: str) -> None:
    page = visit(f"{table}#mark={METHOD}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the chart as SVG").click()
    text = download.value.path().read_text(encoding="utf-8")
    drawing = ElementTree.fromstring(text)
    marks = [one for one in drawing.iter() if one.get("d") and one.get("transform")]

    assert f"{table}#mark={METHOD}" in text.replace("</text>", "").replace("&#xA0;", " ")
    assert str(page.locator("footer.site").get_attribute("data-data")) in text
    assert len(marks) > 20 and all("rgb" in str(mark.get("fill")) for mark in marks)
    assert " class=" not in text and " style=" not in text


def test_a_chart_is_saved_as_pixels(visit: Visit, table: str) -> None:
    page = visit(table)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the chart as PNG").click()
    data = download.value.path().read_bytes()
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")

    assert data.startswith(b"\x89PNG")
    assert width > 1000 and height > 400
