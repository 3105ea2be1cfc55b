"""The made-up year, cut to a few nights of a few cells: its report says what was planted."""

from __future__ import annotations

from pathlib import Path

from tests.bench.nightly.year_of_nights import FAILING, PLANTED, report_last, write_year


def test_planted_regression_is_first_and_the_failure_names_its_commit(tiny: None, tmp_path: Path) -> None:
    write_year(tmp_path, nights=4, cells=FAILING + 1)
    report = report_last(tmp_path, nights=4)
    assert report.first_line.startswith(f"WORSE fails now: tiny/test vit method-{FAILING // 4}")
    assert f"method-{PLANTED // 4} " in report.regressions[1].cell
    assert report.regressions[1].score.startswith("Top-1 accuracy -1.93 ± ")
    assert report.unchanged == FAILING - 1
    (failing,) = report.failing
    assert failing.since_date == "2025-01-04"
    assert failing.worked != failing.since
