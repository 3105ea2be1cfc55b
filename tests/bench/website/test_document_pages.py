"""Pages of the project's documents."""

from pathlib import Path

import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_record
from tests.bench.site_reader import ROOT, build_site
from vitptq.bench.website.document_pages import places
from vitptq.bench.website.templates import documents


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build_site(board_of(make_record()), tmp_path_factory.mktemp("site") / "out", docs=documents())


def test_every_document_has_a_page_and_the_prominent_ones_lie_beside_the_overview(site):
    assert set(places(documents()).values()) <= set(site)
    assert {"protocol.html", "faq.html", "add-a-method.html"} <= set(site)


def test_links_between_documents_reach_a_page(site):
    for path in places(documents()).values():
        for href in site[path].values("href"):
            if not href.startswith(("https://", "#", "data:")):
                target = (Path("/") / path).parent / href.split("#")[0]
                assert target.resolve().relative_to("/").as_posix() in {*site, "data.json"}, (path, href)


def test_the_navigation_names_only_documents_that_are_there(site, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "findings.md").write_text("# Findings\n\nMin-max breaks at 3 bits.\n")
    other = build_site(board_of(make_record()), tmp_path / "out", docs=tmp_path / "docs")

    assert "protocol.html" in site["index.html"].values("href")
    assert "findings.html" in other["index.html"].values("href")
    assert "protocol.html" not in other["index.html"].values("href")
    assert "Min-max breaks" in other["findings.html"].text


def test_a_page_has_one_first_heading_and_no_style_attribute(site):
    for path in places(ROOT / "docs").values():
        assert len(site[path].all("h1")) == 1, path
        assert site[path].values("style") == [], path
