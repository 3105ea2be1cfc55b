"""What fails, and since which commit."""

from __future__ import annotations

from tests.bench.record_factory import make_cell, make_provenance, make_record, measured
from vitptq.bench.nightly.failing import failing
from vitptq.bench.nightly.report import failing_lines
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.record import Failure


def at(day: int, failure=None, **changes):
    """Return the record of one cell on a day, of that day's commit and code."""
    moment = f"2026-12-{day:02}T00:00:00Z"
    provenance = make_provenance(commit=f"{day:07}" + "0" * 33, started=moment, finished=moment)
    cell = make_cell(source=sha256(str(day).encode()))
    return make_record(cell, failure=failure, provenance=provenance, **changes)


def test_failure_names_the_first_commit_at_which_it_failed_and_the_last_that_worked():
    records = [at(1, "raised"), at(2), at(3, "raised"), at(4, "hung")]
    (line,) = failing_lines(failing(measured(records)))
    assert (line.since, line.since_date, line.worked) == ("0000003", "2026-12-03", "0000002")
    assert line.reason == "hung: hung on purpose"


def test_what_works_again_is_not_failing():
    assert failing(measured([at(1, "raised"), at(2)])) == []


def test_what_never_worked_says_so():
    (line,) = failing_lines(failing(measured([at(1, "raised")])))
    assert line.columns[-1] == "never"


def test_attempt_that_a_later_one_replaced_may_have_been_at_an_earlier_commit():
    tried = (Failure(kind="raised", message="before", started="2026-11-30T00:00:00Z"),)
    (line,) = failing_lines(failing(measured([at(1, "raised", earlier=tried)])))
    assert (line.since, line.since_date) == ("0000001 or before", "2026-11-30")


def test_method_that_never_supported_a_model_is_no_failure():
    assert failing(measured([at(1, "unsupported")])) == []
    assert len(failing(measured([at(1), at(2, "unsupported")]))) == 1
