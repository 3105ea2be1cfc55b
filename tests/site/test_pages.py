"""Every kind of page, as a browser shows it: faults, accessibility, both themes, without scripts, at three widths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.site.conftest import Visit, watch
from tests.site.example_site import kinds

PHONE, LAPTOP, DESKTOP = 390, 1440, 1920

REGIONS = """regions => regions.map(region => ({
    name: region.getAttribute("aria-label"),
    cut: region.scrollWidth - region.clientWidth,
    first: getComputedStyle(region.querySelector("tbody th") || region.querySelector("th")).position,
    cue: getComputedStyle(region).backgroundImage,
}))"""


EVERYTHING = {"resultTypes": ["violations"]}
CONTRAST = EVERYTHING | {"runOnly": ["color-contrast"]}
"""All that a theme changes."""


def findings(page: Page, options: dict[str, Any]) -> list[str]:
    """Return what axe-core finds that is worse than minor, folded parts too, with the first element of each finding."""
    page.locator("details").evaluate_all("all => all.forEach(details => { details.open = true; })")
    found = Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] != "minor"]


def sideways(page: Page) -> int:
    """Return by how many pixels the page itself is wider than the window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


def regions(page: Page) -> list[dict[str, Any]]:
    """Return what each region with a table cuts off, and how it shows that."""
    found: list[dict[str, Any]] = page.locator(".scroll").evaluate_all(REGIONS)
    return found


@pytest.mark.parametrize(("scheme", "options"), [("light", EVERYTHING), ("dark", CONTRAST)])
def test_no_page_has_more_than_minor_accessibility_findings(
    visit: Visit, site: Path, scheme: str, options: dict[str, Any]
) -> None:
    page = visit(color_scheme=scheme)
    found = {}
    for path in kinds(site):
        page.goto(f"{site.as_uri()}/{path}")
        found[path] = findings(page, options)
    assert not {path: problems for path, problems in found.items() if problems}


@pytest.mark.parametrize("width", [LAPTOP, DESKTOP])
def test_a_wide_window_cuts_no_table(visit: Visit, site: Path, width: int) -> None:
    page = visit(width=width)
    cut = {}
    for path in kinds(site):
        page.goto(f"{site.as_uri()}/{path}")
        assert sideways(page) <= 0, path
        cut |= {(path, region["name"]): region["cut"] for region in regions(page) if region["cut"] > 0}
    assert not cut


def test_on_a_phone_a_cut_table_keeps_its_first_column_and_shows_that_there_is_more(visit: Visit, site: Path) -> None:
    page = visit(width=PHONE)
    cut = []
    for path in kinds(site):
        page.goto(f"{site.as_uri()}/{path}")
        assert sideways(page) <= 0, path
        cut += [region for region in regions(page) if region["cut"] > 0]
    assert {region["name"] for region in cut} >= {"Every method", "Details and costs"}
    assert all(region["first"] == "sticky" and "gradient" in region["cue"] for region in cut)


def test_without_scripts_the_same_rows_are_there_and_no_button_waits_in_vain(visit: Visit, site: Path) -> None:
    bare, whole = visit(java_script_enabled=False), visit()
    for path in kinds(site):
        shown = []
        for page in (bare, whole):
            page.goto(f"{site.as_uri()}/{path}")
            shown.append(page.locator("tbody tr").evaluate_all("rows => rows.filter(row => !row.hidden).length"))
        assert shown[0] == shown[1], path
        assert bare.locator("button:visible, input:visible").count() == 0, path


def test_the_theme_follows_the_system_until_it_is_chosen_and_the_choice_stays(visit: Visit) -> None:
    page = visit(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Light theme").click()
    light = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == light
    expect(page.get_by_role("button", name="Dark theme")).to_be_visible()


def test_the_first_stop_of_the_tab_key_skips_the_navigation(visit: Visit) -> None:
    page = visit()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_focus_is_seen_on_every_stop_of_the_tab_key(visit: Visit) -> None:
    page = visit("which.html")
    outlines = []
    for _ in range(25):
        page.keyboard.press("Tab")
        outlines.append(page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    assert set(outlines) == {"solid"}


def test_code_is_copied(visit: Visit, site: Path) -> None:
    page = visit(run_page(site))
    page.get_by_role("button", name="Copy").first.click()
    expect(page.locator("#announcer")).to_have_text("Copied")


def test_code_is_selected_where_the_clipboard_is_refused(visit: Visit, site: Path) -> None:
    page = visit(run_page(site))
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }")
    block = page.locator("pre[data-copy]").first
    block.get_by_role("button", name="Copy").click()
    expect(page.locator("#announcer")).to_contain_text("Selected")
    assert page.evaluate("getSelection().toString()") == block.locator("code").text_content()


def run_page(site: Path) -> str:
    return next(path for path in kinds(site) if path.startswith("runs/"))


def test_a_fault_of_a_page_is_seen(browser: Browser, site: Path) -> None:
    faults: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        watch(page, site, faults)
        page.goto(f"{site.as_uri()}/index.html")
        page.evaluate("console.error('planted')")
        with page.expect_event("requestfailed"):
            page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.com/a.png'}))")
    assert "planted" in faults and "https://example.com/a.png" in faults
