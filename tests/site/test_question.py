"""The question box of the overview, in a browser."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.site.conftest import Visit


def choice(page: Page, name: str) -> Locator:
    """Return one of the boxes of the question."""
    return page.locator("#question label", has_text=name).locator("select")


def test_a_choice_fills_the_answer_in_and_is_kept_in_the_address(visit: Visit) -> None:
    page = visit()
    caption = page.locator("#question caption strong")
    before = caption.inner_text()
    choice(page, "Bits").select_option("W3A3")

    expect(caption).to_contain_text("at W3A3")
    expect(page.locator("#question tbody tr")).not_to_have_count(0)
    assert "#ask=a-" in page.url
    page.reload()
    expect(page.locator("#question caption strong")).to_contain_text("at W3A3")
    page.go_back()
    expect(page.locator("#question caption strong")).to_have_text(before)


def test_the_choices_follow_the_task(visit: Visit) -> None:
    page = visit()
    choice(page, "Task").select_option("coco, mini")

    expect(choice(page, "Model")).to_have_value("mask_rcnn")
    expect(page.locator("#question caption")).to_contain_text("Box AP")


def test_the_filled_in_answer_is_that_of_the_page(visit: Visit) -> None:
    with_scripts, without = visit(), visit(java_script_enabled=False)
    text, links = "row.innerText.replace(/\\s+/g, ' ')", "[...row.querySelectorAll('a')].map(a => a.href)"
    read = f"rows => rows.map(row => [{text}, {links}])"
    shown = [page.locator("#question tbody tr").evaluate_all(read) for page in (with_scripts, without)]

    assert shown[0] == shown[1]


def test_the_score_of_another_answer_leads_to_its_run(visit: Visit) -> None:
    page = visit()
    choice(page, "Model").select_option("swin_mini")
    choice(page, "Bits").select_option("W3A3")
    score = page.locator("#question tbody tr").first.get_by_role("link").nth(1)
    text = score.inner_text()
    score.click()

    expect(page.locator("h1")).to_contain_text("swin_mini")
    expect(page.locator("main")).to_contain_text(text)
