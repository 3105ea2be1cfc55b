"""Markdown as a part of a page."""

import pytest

from tests.bench.site_reader import Page
from vitptq.bench.website.markdown_text import document

PLACES = {"a.md": "a.html", "more/b.md": "pages/more/b.html"}


@pytest.fixture
def rendered(tmp_path):
    def render(text, file="a.md", page="a.html"):
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return document(path, tmp_path, PLACES, page).text

    return render


def test_headings_have_unique_anchors_as_forges_make_them(rendered):
    html = rendered("# The `x` of it\n\n## Twice\n\n## Twice\n")

    assert Page(html).values("id") == ["the-x-of-it", "twice", "twice-1"]


def test_links_lead_to_the_pages_of_documents_and_are_dropped_where_there_is_none(rendered):
    html = rendered("[b](more/b.md#top), [code](../more/x.py), [out](https://example.org), [here](#a)")

    assert Page(html).values("href") == ["pages/more/b.html#top", "https://example.org", "#a"]
    assert "code" in Page(html).text and "](" not in html


def test_links_from_a_folder_lead_back(rendered):
    html = rendered("[a](../a.md)", "more/b.md", "pages/more/b.html")

    assert Page(html).values("href") == ["../../a.html"]


def test_html_and_scripts_are_text(rendered):
    html = rendered('<script>alert(1)</script>\n\nA <b onclick="x">word</b>, [click](javascript:alert(1))')

    assert {tag for tag, _ in Page(html).elements} == {"p"}
    assert "<script>alert(1)</script>" in Page(str(html)).text


def test_tables_have_a_region_a_caption_scopes_and_no_style(rendered):
    page = Page(rendered("## Costs\n\n| a | b |\n|---|---:|\n| 1 | 2 |\n"))

    assert [attrs["aria-label"] for attrs in page.all("div")] == ["Table: Costs"]
    assert page.all("caption") and [attrs["scope"] for attrs in page.all("th")] == ["col", "col", "row"]
    assert page.values("style") == [] and page.all("td") == [{"class": "n"}]


def test_tables_below_one_heading_have_names_of_their_own(rendered):
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n\n"
    page = Page(rendered(f"## Costs\n\n{table}And:\n\n{table}## More\n\n{table}"))

    assert [attrs["aria-label"] for attrs in page.all("div")] == ["Table: Costs", "Table: Costs, 2", "Table: More"]


def test_images_beside_the_document_are_put_into_the_page(rendered, tmp_path):
    (tmp_path / "x.svg").write_text("<svg/>")

    assert Page(rendered("![rooms](x.svg)")).values("src")[0].startswith("data:image/svg+xml;base64,")


def test_a_documents_title_is_its_first_heading_and_its_sections_have_anchors(tmp_path):
    (tmp_path / "a.md").write_text("\n# Protocol, version 1\n\n## The `x`\n\n### Deep\n")
    (tmp_path / "b.md").write_text("no heading")
    one, two = (document(tmp_path / name, tmp_path, {}, "x.html") for name in ("a.md", "b.md"))

    assert (one.title, two.title) == ("Protocol, version 1", "b")
    assert one.sections == (("the-x", "The x"), ("deep", "Deep"))
