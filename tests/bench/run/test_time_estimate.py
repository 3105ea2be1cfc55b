"""How long a cell will take."""

from __future__ import annotations

from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.run.time_estimate import clock, estimate


def test_estimate_is_the_median_of_the_records_most_like_the_cell() -> None:
    records = [make_record(make_cell(seed=seed)) for seed in range(3)]
    seconds = sorted(record.costs.total_s for record in records if record.costs)
    other = make_record(make_cell(method="ema"))
    assert estimate(make_cell(seed=9), [other, *records]) == seconds[1]
    assert estimate(make_cell(method="ema", model="swin"), [other, *records]) == other.costs.total_s  # type: ignore[union-attr]


def test_nothing_is_estimated_where_nothing_is_alike() -> None:
    assert estimate(make_cell(task="other"), [make_record()]) is None
    assert estimate(make_cell(), [make_record(failure="hung")]) is None


def test_clock_is_for_people() -> None:
    assert (clock(None), clock(65), clock(0.4)) == ("?", "0:01:05", "0:00:00")
