"""Methods beside each other."""

import re

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_cell, make_detection_records, make_record
from tests.bench.site_reader import build_site, section, words
from vitptq.bench.board.image_noise import NoImageNoise
from vitptq.bench.website.compare_pages import pages
from vitptq.bench.website.page import Content
from vitptq.bench.website.paths import compare_path


def test_the_matrix_counts_over_models_and_bits_and_leads_to_every_method(tmp_path):
    scores = {("omse", "W4A4"): 90.0, ("ema", "W4A4"): 80.0, ("omse", "W8A8"): 90.0, ("ema", "W8A8"): 89.95}
    records = [make_record(make_cell(method=m, bits=b), score=score) for (m, b), score in scores.items()]
    site = build_site(board_of(*records), tmp_path / "out")
    matrix = section(site["compare.html"].html, "matrix-1")

    assert re.findall(r">(\d–\d) <span[^>]*>(of \d)", matrix) == [("0–1", "of 2"), ("1–0", "of 2")]
    assert {compare_path("omse"), compare_path("ema")} <= set(site["compare.html"].values("href"))
    assert "better" in words(site[compare_path("omse")]) and "worse" in words(site[compare_path("ema")])


def test_a_method_on_several_tasks_has_a_section_for_each():
    others = make_detection_records(method="omse")
    content = Content(
        board_of(*make_detection_records(), *others[1:], make_record(), make_record(make_cell(method="omse")))
    )
    by_path = {page.path: page.context for page in pages(content)}

    sections = by_path[compare_path("omse")]["sections"]
    assert {s.task for s in sections} == {"classification", "coco"}
    assert by_path[compare_path("omse")]["counts"]["minmax"].total() == len(sections)


def test_without_evidence_nothing_is_compared_and_the_page_says_so(tmp_path):
    board = board_of(make_record(), make_record(make_cell(method="omse")), noises=NoImageNoise())
    site = build_site(board, tmp_path / "out")

    assert "No two methods were compared" in words(site["compare.html"])
    assert not any(path.startswith("compare/") for path in site)
