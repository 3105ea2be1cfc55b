"""How long a cell will take."""

from __future__ import annotations

import time

from tests.bench.record_factory import make_cell, make_costs, make_record
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record
from vitptq.bench.run.time_estimate import Estimate, Estimates, clock

FAMILIES = {"minmax": "observe", "ema": "observe", "qdrop": "reconstruct", "brecq": "reconstruct"}


def took(seconds: float, cell: Cell) -> Record:
    return make_record(cell, costs=make_costs(cell).model_copy(update={"total_s": seconds}))


def test_estimate_is_the_median_of_the_records_most_like_the_cell() -> None:
    estimates = Estimates(
        [
            took(1, make_cell()),
            took(2, make_cell(seed=1)),
            took(9, make_cell(seed=2)),
            took(50, make_cell(method="ema")),
        ],
        FAMILIES,
    )
    assert estimates.of(make_cell(seed=9)) == Estimate(2, learned=True)
    assert estimates.of(make_cell(method="ema", model="swin")) == Estimate(50, learned=True)


def test_family_speaks_for_a_method_that_was_not_measured() -> None:
    estimates = Estimates([took(3, make_cell()), took(700, make_cell(method="brecq"))], FAMILIES)
    assert estimates.of(make_cell(method="qdrop")) == Estimate(700, learned=True)
    assert estimates.of(make_cell(method="qdrop", model="swin")) == Estimate(700, learned=True)


def test_shipped_figures_speak_where_nothing_was_measured() -> None:
    estimates = Estimates([make_record(make_cell(task="other"))], FAMILIES)
    found = [estimates.of(make_cell(task="imagenet", edition="full", method=name)) for name in ("minmax", "qdrop")]
    assert all(estimate is not None and not estimate.learned for estimate in found)
    assert found[0].seconds < found[1].seconds  # type: ignore[union-attr]


def test_nothing_is_estimated_where_nothing_is_alike() -> None:
    assert Estimates([make_record()], FAMILIES).of(make_cell(task="other")) is None
    assert Estimates([make_record(failure="hung")], FAMILIES).of(make_cell()) is None


def test_ten_thousand_records_are_looked_up_in_a_second() -> None:
    records = [took(seed, make_cell(seed=seed)) for seed in range(100)] * 100
    started = time.process_time()
    estimates = Estimates(records, FAMILIES)
    for record in records:
        estimates.of(record.cell)
    assert time.process_time() - started < 5


def test_clock_is_for_people() -> None:
    assert (clock(None), clock(65), clock(0.4)) == ("?", "0:01:05", "0:00:00")
