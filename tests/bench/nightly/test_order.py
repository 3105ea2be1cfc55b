"""What a night measures first."""

from __future__ import annotations

import pytest

from tests.bench.record_factory import make_cell, make_provenance, make_record, measured
from vitptq.bench.errors import BadInput
from vitptq.bench.nightly.order import Due, due, parse_budget, within
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.history import thing

HERE = make_provenance().environment


def due_among(cells, records, environment=HERE):
    lines = measured(records)
    return due(cells, {line.id: line for line in lines}, {line.thing for line in lines}, environment, {})


def test_missing_cells_come_before_stale_ones_and_further_draws():
    stale = make_cell(method="omse", source=sha256(b"new"))
    draws = [make_cell(method="ema", seed=seed) for seed in (0, 1)]
    old = make_record(make_cell(method="omse", source=sha256(b"old")))
    found = due_among([draws[1], stale, draws[0]], [old])
    assert [(each.cell, each.why) for each in found] == [
        (draws[0], "missing"),
        (stale, "stale"),
        (draws[1], "another draw"),
    ]


def test_cells_with_a_published_number_come_first_among_the_missing():
    cells = [make_cell(method=name) for name in ("omse", "ema")]
    for cell in cells:
        found = due(cells, {}, (), HERE, {cell.id: 1000.0}, {cell.id})
        assert found[0].cell == cell


def test_measured_cell_is_not_due_until_its_environment_changes():
    record = make_record()
    assert due_among([record.cell], [record]) == []
    assert [each.why for each in due_among([record.cell], [record], "another")] == ["stale"]


def test_cell_whose_record_was_put_aside_is_stale_and_not_missing():
    record = make_record()
    assert [each.why for each in due([record.cell], {}, {thing(record.cell)}, HERE, {})] == ["stale"]


def test_budget_takes_what_fits_and_always_something():
    found = [Due(make_cell(seed=seed), "missing", seconds) for seed, seconds in enumerate((50.0, 30.0, 30.0))]
    assert [each.seconds for each in within(found, 85.0)] == [50.0, 30.0]
    assert [each.seconds for each in within(found, 1.0)] == [50.0]


@pytest.mark.parametrize("text", ["", "6", "h", "6 hours", "-1h"])
def test_budget_that_is_no_time_teaches(text):
    with pytest.raises(BadInput, match="write for example 6h"):
        parse_budget(text)
