"""Pages of methods."""

from tests.bench.record_factory import (
    make_card,
    make_cards,
    make_cell,
    make_record,
)
from tests.bench.site_reader import build_site, section
from vitptq.bench.board.board import Board
from vitptq.bench.results.cell import sha256
from vitptq.bench.website.paths import method_path, parity_path


def test_a_method_page_tells_its_fidelity_and_its_paper(site):
    page = site[method_path("omse")]

    assert "inferred" in page.text
    assert "the number of candidate ranges" in page.text
    assert sha256(b"omse") in page.text
    assert {"https://arxiv.org/abs/2212.08254"} <= set(page.values("href"))


def test_a_method_page_has_its_papers_entry_and_the_boards_at_the_version_and_year_of_the_records(board, site):
    text = site[method_path("omse")].text

    year = max(record.provenance.finished for row in board.rows for record in row.records)[:4]
    assert "@inproceedings{arxiv-2212.08254," in text
    assert "note = {Version 0.1.0}" in text
    assert f"year = {{{year}}}" in site["data.html"].text


def test_a_method_page_has_a_command_that_measures_it_again_for_each_task(tmp_path):
    records = [make_record(make_cell(task=task)) for task in ("imagenet", "coco")]
    site = build_site(Board.from_records(records, make_cards()), tmp_path / "out")

    html = section(site[method_path("minmax")].html, "run")
    assert html.count("<code>vitptq run mini --only method=minmax --only bits=") == 2
    assert "coco, mini" in html


def test_a_method_page_links_the_test_that_compares_it_with_official_code(tmp_path):
    card = make_card("repq-vit", parity={"form": "released"}, parity_test="tests/parity/test_repq_vit.py")
    cards = make_cards() | {"repq-vit": card}
    site = build_site(Board.from_records([make_record(make_cell(method="repq-vit"))], cards), tmp_path / "out")

    assert f"../{parity_path('repq-vit')}" in site[method_path("repq-vit")].values("href")
    page = site[parity_path("repq-vit")]
    assert "reparameterised layer norm and its reader are the official ones" in page.text
    assert any(address.startswith("https://github.com/zkkli/RepQ-ViT/tree/") for address in page.values("href"))


def test_every_value_that_a_parameter_was_run_with_is_told(tmp_path):
    records = [make_record(make_cell(parameters={"steps": steps, "form": "paper"})) for steps in (20, 5)]
    page = build_site(Board.from_records(records, make_cards()), tmp_path / "out")[method_path("minmax")]

    assert {"steps: 20, 5", "steps: 5, 20"} & {" ".join(page.text.split())[i : i + 12] for i in range(len(page.text))}
