"""What became of things that were measured twice."""

from __future__ import annotations

from tests.bench.noise_factory import PlantedNoise
from tests.bench.record_factory import make_cell, make_costs, make_provenance, make_record, measured
from vitptq.bench.nightly.changes import RECENT, changes
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.record import Record

CELL = make_cell()
CHANGED = make_cell(source=sha256(b"changed"))


def record(cell=CELL, seconds=10.0, day=1, **changes) -> Record:
    costs = make_costs(cell).model_copy(update={"quantise_s": seconds, "peak_host_mib": changes.pop("mib", 900.0)})
    moment = f"2026-12-{day:02}T00:00:00+00:00"
    provenance = make_provenance(started=moment, finished=moment)
    return make_record(cell, costs=costs, provenance=provenance, **changes)


def only(old, new, history=()):
    found = changes(old, new, PlantedNoise(), measured([*history, *old, *new]))
    return found[0] if found else None


def test_equal_results_are_no_change():
    assert only([record()], [record(CHANGED, day=2)]) is None


def test_lower_score_on_the_same_images_is_a_regression():
    change = only([record(score=80.0)], [record(CHANGED, day=2, score=70.0)])
    assert change.kinds == ("score",)
    assert change.worse
    assert change.score.points == -10.0


def test_higher_score_is_told_and_is_no_regression():
    change = only([record(score=70.0)], [record(CHANGED, day=2, score=80.0)])
    assert change.kinds == ("score",)
    assert not change.worse


def test_tenfold_time_on_one_machine_is_a_regression():
    change = only([record(seconds=2.0)], [record(CHANGED, day=2, seconds=20.0)])
    assert change.kinds == ("time",)
    assert change.worse
    assert change.seconds == (2.0, 20.0)


def test_time_within_the_machines_own_noise_is_no_change():
    history = [record(seconds=value, day=day) for day, value in enumerate((10.0, 11.0, 10.0, 16.0, 10.0), start=1)]
    assert only(history[-1:], [record(CHANGED, day=9, seconds=15.0)], history) is None
    assert only(history[-1:], [record(CHANGED, day=9, seconds=19.0)], history) is not None


def test_time_that_was_mended_long_ago_hides_nothing():
    slow = [record(seconds=100.0, day=1)]
    history = [record(seconds=10.0, day=2 + number % 20) for number in range(RECENT)]
    assert only(history[-1:], [record(CHANGED, day=29, seconds=40.0)], slow + history).worse


def test_planted_loss_of_1_94_points_and_tenfold_time_comes_first():
    other = [make_cell(method="omse"), make_cell(method="omse", source=sha256(b"changed"))]
    old = [record(score=80.0, seconds=2.0), record(other[0], score=70.0)]
    new = [record(CHANGED, day=2, score=78.06, seconds=20.0), record(other[1], day=2, score=75.0)]
    first, second = changes(old, new, PlantedNoise(), measured(old))
    assert first.kinds == ("score", "time")
    assert round(first.score.points, 2) == -1.93  # whole images of 3,000
    assert first.worse
    assert not second.worse


def test_record_that_both_states_have_is_no_change_whatever_was_before():
    faster, now = record(seconds=2.0), record(CHANGED, day=2, seconds=20.0)
    assert only([now], [now], [faster]) is None


def test_times_of_other_machines_are_not_compared():
    old = record(seconds=1.0)
    old = old.model_copy(update={"provenance": old.provenance.model_copy(update={"host": "other"})})
    assert only([old], [record(CHANGED, day=2, seconds=20.0)]) is None


def test_more_memory_is_a_regression():
    change = only([record(mib=900.0)], [record(CHANGED, day=2, mib=1800.0)])
    assert change.kinds == ("memory",)
    assert change.worse


def test_failure_comes_before_everything_else():
    lower = [make_cell(method="omse"), make_cell(method="omse", source=sha256(b"changed"))]
    old = [record(), record(lower[0], score=90.0)]
    failed = make_record(CHANGED, failure="raised", provenance=make_provenance(finished="2026-12-02T00:00:00+00:00"))
    found = changes(old, [failed, record(lower[1], day=2, score=60.0)], PlantedNoise())
    assert [change.kinds[0] for change in found] == ["failed", "score"]


def test_new_and_gone_things_are_named():
    other = record(make_cell(method="omse"))
    assert [change.kinds for change in changes([record()], [other], PlantedNoise())] == [("new",), ("gone",)]
