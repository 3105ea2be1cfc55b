"""What a night measures first."""

from __future__ import annotations

import pytest

from tests.bench.record_factory import make_cell, make_provenance, make_record
from vitptq.bench.errors import BadInput
from vitptq.bench.nightly.order import Due, due, parse_budget, within
from vitptq.bench.results.cell import sha256

HERE = make_provenance().environment


def test_missing_cells_come_before_stale_ones_and_further_draws():
    stale = make_cell(method="omse", source=sha256(b"new"))
    draws = [make_cell(method="ema", seed=seed) for seed in (0, 1)]
    old = make_record(make_cell(method="omse", source=sha256(b"old")))
    found = due([draws[1], stale, draws[0]], [old], HERE, {})
    assert [(each.cell, each.why) for each in found] == [
        (draws[0], "missing"),
        (stale, "stale"),
        (draws[1], "another draw"),
    ]


def test_measured_cell_is_not_due_until_its_environment_changes():
    record = make_record()
    assert due([record.cell], [record], HERE, {}) == []
    assert [each.why for each in due([record.cell], [record], "another", {})] == ["stale"]


def test_budget_takes_what_fits_and_always_something():
    found = [Due(make_cell(seed=seed), "missing", seconds) for seed, seconds in enumerate((50.0, 30.0, 30.0))]
    assert [each.seconds for each in within(found, 85.0)] == [50.0, 30.0]
    assert [each.seconds for each in within(found, 1.0)] == [50.0]


@pytest.mark.parametrize("text", ["", "6", "h", "6 hours", "-1h"])
def test_budget_that_is_no_time_teaches(text):
    with pytest.raises(BadInput, match="write for example 6h"):
        parse_budget(text)
