"""Sorting and filtering, and the address that keeps the view."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.site.conftest import Visit

METHOD = "Method"
SHOWN = """rows => rows.filter(row => row.checkVisibility())
    .map(row => Array.from(row.cells, cell => cell.innerText.trim()))"""
IN_ORDER = """() => {
    const names = Array.from(document.querySelectorAll("tbody tr th"), name => name.innerText.toLowerCase());
    return names.every((name, i) => !i || names[i - 1] <= name);
}"""


@pytest.fixture
def table(site: Path) -> str:
    """Return the path of the page of a model with many rows."""
    (path,) = (site / "tables").glob("*vit-mini.html")
    return path.relative_to(site).as_posix()


def section(page: Page, name: str) -> Locator:
    return page.locator(f'section[aria-labelledby="{name}"]')


def rows(page: Page, name: str) -> list[list[str]]:
    """Return the texts of the cells that are shown, of each row below a section's headings."""
    found: list[list[str]] = section(page, name).locator("tbody tr:not(.group)").evaluate_all(SHOWN)
    return found


def names(page: Page, name: str) -> list[str]:
    return [row[0] for row in rows(page, name)]


def sort(page: Page, name: str, column: str) -> None:
    section(page, name).get_by_role("columnheader", name=column).get_by_role("button").click()


def test_names_sort_whatever_their_case_and_the_reference_stays_first(visit: Visit, table: str) -> None:
    page = visit(table)
    before = names(page, "scores")
    sort(page, "scores", METHOD)
    ascending = names(page, "scores")
    sort(page, "scores", METHOD)
    descending = names(page, "scores")
    assert "adaround" in before and before[0] == ascending[0] == descending[0] == "Float"
    assert ascending[1:] == sorted(before[1:], key=str.casefold)
    assert descending[1:] == ascending[:0:-1]


def test_a_third_click_brings_the_own_order_of_the_page_back(visit: Visit, site: Path, table: str) -> None:
    page = visit(table)
    before = names(page, "scores")
    for _ in range(3):
        sort(page, "scores", METHOD)
    assert names(page, "scores") == before
    assert page.evaluate("location.href") == f"{site.as_uri()}/{table}"


def test_numbers_sort_by_value_within_their_group(visit: Visit, table: str) -> None:
    page = visit(table)
    sort(page, "details", "Drop")
    groups = section(page, "details").locator("tbody")
    head = section(page, "details").locator("thead th").all_inner_texts()
    place = head.index("Drop")
    for group in groups.all():
        cells = group.locator(f"tr:not(.group) :nth-child({place + 1}):is(td)").all_inner_texts()
        drops = [float(cell.replace("\N{MINUS SIGN}", "-")) for cell in cells if cell != "–"]
        assert drops == sorted(drops, reverse=True)


def test_every_word_must_be_in_the_row_and_one_after_a_minus_must_not(visit: Visit, table: str) -> None:
    page = visit(table)
    section(page, "details").get_by_role("searchbox").fill("w4a4 m -ema")
    shown = names(page, "details")
    assert shown and all("m" in name.lower() and name != "EMA" for name in shown)
    expect(section(page, "details").get_by_role("status").first).to_contain_text(f"{len(shown)} of ")


def test_the_address_opens_the_same_view(visit: Visit, table: str) -> None:
    page = visit(table)
    sort(page, "scores", METHOD)
    section(page, "details").get_by_role("searchbox").fill("w4a4")
    fragment = page.evaluate("location.hash")
    again = visit(table + fragment)
    assert fragment
    for name in ("scores", "details"):
        assert rows(again, name) == rows(page, name)
    assert len(rows(again, "details")) < len(rows(visit(table), "details"))


def test_back_forward_and_reload_keep_the_view(visit: Visit, table: str) -> None:
    page = visit(table)
    seen = [names(page, "scores")]
    for _ in range(2):
        sort(page, "scores", METHOD)
        seen.append(names(page, "scores"))
    page.go_back()
    assert names(page, "scores") == seen[1]
    page.go_back()
    assert names(page, "scores") == seen[0]
    page.go_forward()
    assert names(page, "scores") == seen[1]
    page.reload()
    assert names(page, "scores") == seen[1]


def test_typing_is_one_step_back_and_not_one_per_letter(visit: Visit, table: str) -> None:
    page = visit(table)
    before = names(page, "details")
    section(page, "details").get_by_role("searchbox").press_sequentially("omse")
    assert len(names(page, "details")) < len(before)
    page.go_back()
    assert names(page, "details") == before
    expect(section(page, "details").get_by_role("searchbox")).to_have_value("")


def test_a_link_within_the_page_keeps_the_view(visit: Visit, table: str) -> None:
    page = visit(table)
    sort(page, "scores", METHOD)
    view = names(page, "scores")
    page.get_by_role("link", name="The same numbers as a table").click()
    assert names(page, "scores") == view
    page.reload()
    assert names(page, "scores") == view


def test_an_unknown_part_of_the_address_is_ignored(visit: Visit, table: str) -> None:
    page = visit(f"{table}#nonesuch=1&sort.scores=nonesuch&sort.nowhere=method&%E0%A4%A")
    assert names(page, "scores") == names(visit(table), "scores")


def test_the_keyboard_sorts_and_the_screen_reader_is_told(visit: Visit, table: str) -> None:
    page = visit(table)
    head = section(page, "scores").get_by_role("columnheader", name=METHOD)
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("#announcer")).to_contain_text("Sorted by Method")
    page.keyboard.press("Space")
    expect(head).to_have_attribute("aria-sort", "descending")


def test_arrow_keys_scroll_a_cut_table(visit: Visit, table: str) -> None:
    page = visit(table, width=390)
    region = section(page, "details").get_by_role("group", name="Details and costs")
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("region => region.scrollLeft > 0", arg=region.element_handle())
    first = region.locator("tbody tr:not(.group) th").first
    assert first.bounding_box()["x"] >= region.bounding_box()["x"]


def menu(page: Page, name: str, title: str) -> Locator:
    """Return what unfolds above a section's table below a title, unfolded."""
    folded = section(page, name).locator("details.menu", has=page.get_by_text(title, exact=True))
    folded.locator("summary").click()
    return folded


def column(page: Page, name: str, title: str) -> list[str]:
    """Return the texts of a column that are shown, groups in their order."""
    heads = [text.strip() for text in section(page, name).locator("thead th").all_inner_texts()]
    return [row[heads.index(title)] for row in rows(page, name)]


def test_rows_with_chosen_words_in_a_column_are_left(visit: Visit, table: str) -> None:
    page = visit(table)
    before = column(page, "details", "Group")
    menu(page, "details", "Filter").get_by_role("group", name="Group").get_by_label("B", exact=True).check()
    assert column(page, "details", "Group") == [group for group in before if group == "B"] != []
    page.reload()
    assert set(column(page, "details", "Group")) == {"B"}


def test_rows_with_numbers_between_two_ends_are_left(visit: Visit, table: str) -> None:
    page = visit(table)
    panel = menu(page, "details", "Filter")
    panel.get_by_label("Score, from").fill("80")
    panel.get_by_label("Score, to").fill("90")
    page.keyboard.press("Enter")
    scores = [float(score) for score in column(page, "details", "Score")]
    assert scores and all(80 <= score <= 90 for score in scores)


def test_a_column_is_taken_away_and_the_address_says_so(visit: Visit, table: str) -> None:
    page = visit(table)
    heads = section(page, "details").locator("thead th")
    panel = menu(page, "details", "Columns")
    expect(panel.get_by_label(METHOD, exact=True)).to_have_count(0)  # a row without its name says nothing
    panel.get_by_label("Drop", exact=True).uncheck()
    expect(heads.filter(has_text="Drop")).to_be_hidden()
    again = visit(table + page.evaluate("location.hash"))
    expect(section(again, "details").locator("thead th").filter(has_text="Drop")).to_be_hidden()
    assert len(rows(again, "details")[0]) == len(rows(page, "details")[0])


def test_reset_brings_the_page_back_as_it_was_written(visit: Visit, site: Path, table: str) -> None:
    page = visit(f"{table}#sort.details=-drop&find.details=w4a4&hide.details=score")
    section(page, "details").get_by_role("button", name="Reset").click()
    assert rows(page, "details") == rows(visit(table), "details")
    assert page.evaluate("location.href") == f"{site.as_uri()}/{table}"


def test_rows_below_the_window_are_sorted_too(visit: Visit, site: Path) -> None:
    (path,) = (site / "claims").glob("*imagenet*.html")
    page = visit(path.relative_to(site).as_posix())
    head = page.get_by_role("columnheader", name=METHOD).first
    head.get_by_role("button").click()
    assert page.locator("tbody tr th").count() > 40
    page.wait_for_function(IN_ORDER)
