"""The report of a night."""

from __future__ import annotations

from tests.bench.nightly.test_changes import CHANGED, record
from tests.bench.noise_factory import PlantedNoise
from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.nightly.changes import changes
from vitptq.bench.nightly.report import Report, as_html, as_markdown, lines


def report(**notes):
    old = [record(score=80.0, seconds=2.0), record(make_cell(method="omse"), score=70.0)]
    new = [record(CHANGED, day=2, score=70.0, seconds=20.0), record(make_cell(method="omse"), day=2, score=85.0)]
    return Report("Night", tuple(changes(old, new, PlantedNoise())), 3, **notes)


def test_regression_is_the_first_line():
    first = next(lines(report().changes))
    assert first.startswith("WORSE score moved, time moved: classification/mini vit_mini minmax W4A4 seed 0")
    assert "-10.00" in first
    assert "2.0 to 20.0 s" in first


def test_headline_counts():
    assert report().headline == "1 regression, 2 changes, 3 unchanged"


def test_texts_are_escaped_in_both_formats():
    hostile = make_record(make_cell(method="<b>|"), score=1.0)
    found = Report("<i>", tuple(changes([], [hostile], PlantedNoise())), 0, notes=("<u>",))
    assert "<b>" not in as_html(found)
    assert "<u>" not in as_html(found)
    assert r"\<b\>\|" in as_markdown(found)


def test_page_loads_nothing():
    page = as_html(report())
    assert "http" not in page
    assert "<script" not in page
