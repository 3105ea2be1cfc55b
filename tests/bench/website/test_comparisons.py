"""Paired differences of every method to every other."""

import pytest

from tests.bench.board_factory import only_table
from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.bits import BitSpec
from vitptq.bench.website.comparisons import comparisons

W4A4 = BitSpec.parse("W4A4")


def compared(*cells):
    """Return the comparisons of (method, score, other fields)."""
    return comparisons([only_table(make_record(make_cell(method=m, **more), score=s) for m, s, more in cells)])


def test_a_difference_stands_with_its_interval_and_the_verdict_behind_the_ranks():
    found = compared(("omse", 90.0, {}), ("ema", 89.95, {}), ("minmax", 80.0, {}))
    cells = {line.other: line.cells[W4A4] for line in found["omse"].lines}

    assert cells["minmax"].points == pytest.approx(10, abs=0.1)
    assert cells["minmax"].low < cells["minmax"].points < cells["minmax"].high
    assert {other: cell.verdict for other, cell in cells.items()} == {"ema": "not separated", "minmax": "better"}


def test_the_other_method_has_the_same_difference_turned_round():
    found = compared(("omse", 90.0, {}), ("minmax", 80.0, {}))
    (ours,), (theirs,) = (found[name].lines for name in ("omse", "minmax"))

    assert theirs.cells[W4A4].low == -ours.cells[W4A4].high
    assert (ours.cells[W4A4].verdict, theirs.cells[W4A4].verdict) == ("better", "worse")
    assert found["minmax"].counts["omse"] == {"worse": 1}


def test_rows_of_one_number_of_calibration_images_stand_beside_each_other():
    both = [("omse", 90.0, {"calibration_size": n}) for n in (32, 128)]
    found = compared(*both, ("ema", 80.0, {"calibration_size": 32}), ("minmax", 70.0, {"calibration_size": 1024}))

    assert {(line.ours, line.other) for line in found["omse"].lines} == {
        ("OMSE (32 images)", "ema"),
        ("OMSE (32 images)", "minmax"),
        ("OMSE (128 images)", "minmax"),
    }


def test_nothing_is_compared_with_rows_of_its_own_method():
    assert compared(*(("omse", 90.0, {"parameters": {"steps": n}}) for n in (1, 2))) == {}
