"""The pages of published numbers."""

from __future__ import annotations

import pytest

from tests.bench.record_factory import realistic_board
from tests.bench.site_reader import TEMPLATES, pages
from vitptq.bench.results import claim_names, claims
from vitptq.bench.website.build import build
from vitptq.bench.website.claim_book import ClaimBook
from vitptq.bench.website.paths import claims_path

CLAIMS = claims.read()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    board = realistic_board()
    book = ClaimBook.of(CLAIMS, claim_names.read(claims.FOLDER), board)
    out = tmp_path_factory.mktemp("site") / "site"
    return pages(build(board, out, templates=TEMPLATES, version="1", book=book).parent)


def test_every_number_is_on_its_models_page(site):
    pages = (page.html for path, page in site.items() if path.startswith("claims/"))
    rows = sum(html.count('<th scope="row">') for html in pages)
    assert rows == len(CLAIMS)


def test_number_stands_with_its_source_and_verdict(site):
    page = site[claims_path("imagenet", "vit_small_patch16_224")]
    assert "not run: no record that counts" in page.html
    assert "RepQ-ViT (ICCV23)" in page.html


def test_disagreements_show_every_value_and_their_range(site):
    html = site["claims.html"].html
    assert "54.07" in html
    for value in ("17.77", "21.24", "67.62", "71.84"):
        assert value in html


def test_pages_are_reached_from_everywhere(site):
    assert all("claims.html" in page.html for page in site.values())
