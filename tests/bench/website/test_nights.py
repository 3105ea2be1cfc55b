"""Reports of nights, read again, and one that stands alone."""

from __future__ import annotations

from tests.bench.nightly.test_failing import at
from tests.bench.nightly.test_report import planted_report
from tests.bench.record_factory import measured
from tests.bench.site_reader import TEMPLATES, Page
from vitptq.bench.nightly.failing import failing
from vitptq.bench.nightly.report import failing_lines
from vitptq.bench.website.nights import page_alone, read_nights


def test_page_alone_loads_nothing_and_leads_nowhere():
    failures = failing_lines(failing(measured([at(1), at(2, "raised")])))
    html = page_alone(planted_report(failing=failures), TEMPLATES)
    page = Page(html)
    assert "Fails since commit" in page.text
    assert page.values("href") == ["data:,"]
    assert page.values("src") == []
    assert "<script" not in html


def test_reports_are_read_newest_first_and_broken_ones_named(tmp_path):
    folder = tmp_path / "nights"
    folder.mkdir()
    for day in (1, 2):
        (folder / f"2026-12-0{day}-013000.json").write_text(planted_report().model_dump_json())
    (folder / "2026-12-03-013000.json").write_text("{")
    (folder / "notes.json").write_text("{}")
    nights, problems = read_nights(tmp_path)
    assert [night.date for night in nights] == ["2026-12-02 01:30", "2026-12-01 01:30"]
    assert len(problems) == 1
    assert "2026-12-03-013000.json" in problems[0]
