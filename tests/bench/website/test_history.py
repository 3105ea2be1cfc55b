"""What is drawn of a row's history."""

from __future__ import annotations

from tests.bench.nightly.test_failing import at
from tests.bench.record_factory import make_cell, make_provenance, make_record, measured
from vitptq.bench.website.history import MOST_VERSIONS, row_history


def drawn(*records):
    return row_history(measured(records))


def test_row_that_was_measured_once_has_no_history():
    assert drawn(at(1)) is None
    assert drawn(make_record(make_cell(seed=0)), make_record(make_cell(seed=1))) is None


def test_score_and_time_are_drawn_over_the_commits():
    chart = drawn(at(1, score=80.0), at(2, score=78.06)).charts[0]
    assert [panel.title for panel in chart.panels] == ["Top-1 accuracy", "Quantising, s"]
    assert [text for _, text in chart.columns] == ["0000001", "0000002"]
    first, last = chart.panels[0].series[0].marks
    assert first.x < last.x
    assert first.y < last.y  # down is worse
    assert last.text == "2026-12-02, 0000002, seed 0: 78.06"


def test_failure_stands_at_the_bottom_and_breaks_the_line():
    series = drawn(at(1), at(2, "raised"), at(3)).charts[0].panels[0].series[0]
    assert [mark.failed for mark in series.marks] == [False, True, False]
    assert series.path.count("M") == 2


def test_each_seed_has_its_own_line():
    other = [make_record(make_cell(seed=1), score=60.0)]
    assert len(drawn(at(1), at(2), *other).charts[0].panels[0].series) == 2


def test_times_of_two_machines_are_not_joined():
    away = at(2)
    elsewhere = make_provenance(host="other", commit="f" * 40, finished="2026-12-02T00:00:00Z")
    score, seconds = drawn(at(1), away.model_copy(update={"provenance": elsewhere})).charts[0].panels
    assert score.series[0].path.count("M") == 1
    assert seconds.series[0].path.count("M") == 2


def test_only_the_newest_commits_are_drawn():
    line = measured([at(1)])[0]
    many = [line._replace(commit=f"{number:07}", finished=f"{number:07}") for number in range(MOST_VERSIONS + 5)]
    found = row_history(many)
    assert found.left_out == 5
    assert found.measured[0].commit == many[-1].commit


def test_description_tells_first_and_last():
    text = drawn(at(1, score=80.0), at(2, score=78.06)).charts[0].description
    assert text == "Top-1 accuracy over 2 versions, from 80.00 at 0000001 to 78.06 at 0000002; 0 failures."
