"""The report of a night as text."""

from __future__ import annotations

from tests.bench.nightly.test_failing import at
from tests.bench.nightly.test_report import planted_report
from tests.bench.noise_factory import PlantedNoise
from tests.bench.record_factory import make_cell, make_record, measured
from vitptq.bench.nightly.changes import changes
from vitptq.bench.nightly.failing import failing
from vitptq.bench.nightly.report import Report, failing_lines, lines_of
from vitptq.bench.nightly.report_text import as_lines, as_markdown


def test_regression_is_the_first_line_in_both_forms():
    first = next(as_lines(planted_report()))
    assert first.startswith("WORSE score moved, time moved: classification/mini vit_mini minmax W4A4")
    assert as_markdown(planted_report()).splitlines()[0].startswith("# WORSE score moved, time moved")


def test_failures_say_since_when():
    found = failing_lines(failing(measured([at(1), at(2, "raised"), at(3, "raised")])))
    report = Report(title="Night", lines=(), unchanged=0, failing=found)
    (line,) = (line for line in as_lines(report) if line.startswith("FAILS"))
    assert line.startswith("FAILS since 0000002 (2026-12-02, worked at 0000001): classification/mini vit_mini minmax")
    assert "| 0000002 |" in as_markdown(report)


def test_names_are_escaped():
    hostile = make_record(make_cell(method="<b>|"), score=1.0)
    found = lines_of(changes([], [hostile], PlantedNoise()))
    assert r"\<b\>\|" in as_markdown(Report(title="<i>", lines=found, unchanged=0))
