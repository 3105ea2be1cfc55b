"""The report of a comparison, as data."""

from __future__ import annotations

import pytest

from tests.bench.nightly.test_changes import CHANGED, record
from tests.bench.noise_factory import PlantedNoise
from tests.bench.record_factory import make_cell, make_record, measured
from vitptq.bench.errors import BadInput
from vitptq.bench.nightly.changes import changes
from vitptq.bench.nightly.report import Report, lines_of, parse_report


def planted_report(**fields) -> Report:
    old = [record(score=80.0, seconds=2.0), record(make_cell(method="omse"), score=70.0)]
    new = [record(CHANGED, day=2, score=78.06, seconds=20.0), record(make_cell(method="omse"), day=2, score=85.0)]
    found = changes(old, new, PlantedNoise(), measured(old))
    return Report(title="Night", lines=lines_of(found), unchanged=3, **fields)


def test_regression_is_the_first_line():
    first = planted_report().first_line
    assert first.startswith("WORSE score moved, time moved: classification/mini vit_mini minmax W4A4 32 images seed 0")
    assert "Top-1 accuracy -1.93 ± " in first
    assert "2.0 to 20.0 s" in first


def test_headline_counts():
    assert planted_report().headline == "1 regression, 2 changes, 3 unchanged"


def test_failed_verification_is_a_regression():
    report = Report(title="Night", lines=(), unchanged=1, problems=("verification: x",))
    assert report.regressed
    assert report.first_line == "Nothing became worse, but 1 scores are not verified"


def test_settings_that_differ_in_parameters_are_told_apart():
    cells = [make_cell(parameters={"percentile": value, "axis": 1}) for value in (0.9, 0.99)]
    names = [line.cell for line in lines_of(changes([], [make_record(cell) for cell in cells], PlantedNoise()))]
    assert sorted(name.split(" images ")[1] for name in names) == ["percentile=0.9 seed 0", "percentile=0.99 seed 0"]


def test_report_is_kept_and_read_again():
    report = planted_report(notes=("one",))
    assert parse_report(report.model_dump_json().encode(), "report") == report


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"title": 1}'])
def test_what_is_no_report_is_one_sentence(text):
    with pytest.raises(BadInput, match="report x is no report of a night"):
        parse_report(text, "report x")
