"""What changed, day by day."""

from tests.bench.record_factory import make_cell
from vitptq.bench.results.history import Measured, thing
from vitptq.bench.website.changes import changes


def measured(day, score=80.0, seed=0, **fields):
    """Return one record in a line, of a day of January."""
    finished = f"2026-01-{day:02}T03:00:00Z"
    told = {
        "thing": thing(make_cell()), "seed": seed, "id": f"id{seed}", "folder": "", "file_time": 0, "file_size": 1,
        "commit": "c" * 40, "dirty": False, "environment": "e", "host": "h", "device": "cpu", "threads": 2,
        "started": finished, "finished": finished, "first_failed": "", "failure": "", "counts": True,
        "metric": "Top-1 accuracy", "score": score, "quantise_s": 1.0, "peak_mib": 1.0,
    }  # fmt: skip
    return Measured(**(told | fields))


def found(*records):
    return changes({records[0].thing: records})


def test_seeds_of_one_day_are_one_new_row():
    (change,) = found(measured(1, 80.0, seed=0), measured(1, 82.0, seed=1))

    assert (change.kind, change.seeds, change.old, change.new) == ("new", (0, 1), None, 81.0)


def test_a_seed_is_compared_with_its_own_earlier_record():
    move, *new = found(measured(1, 80.0, seed=0), measured(1, 82.0, seed=1), measured(2, 82.5, seed=1))

    assert (move.kind, move.seeds, move.old, move.new, move.day) == ("moved", (1,), 82.0, 82.5, "2026-01-02")
    assert [change.kind for change in new] == ["new"]


def test_what_comes_out_the_same_again_is_no_change():
    assert len(found(measured(1), measured(2, commit="d" * 40), measured(3, score=80.004))) == 1


def test_a_change_names_what_differs():
    newest, _ = found(measured(1), measured(2, 79.0, id="other", commit="d" * 40, environment="f"))

    assert newest.reason == (
        "other code, data or checkpoint; commit ccccccc to ddddddd; "
        "other versions of packages or another kind of device"
    )


def test_failures_that_come_and_go_are_changes():
    kinds = [c.kind for c in found(measured(1), measured(2, None, failure="out of memory"), measured(3, 81.0))]

    assert kinds == ["recovered", "failed", "new"]


def test_a_change_keeps_its_identity_in_later_builds():
    before = found(measured(1), measured(2, 79.0))
    after = found(measured(1), measured(2, 79.0), measured(5, 78.0))

    assert [c.id for c in after][1:] == [c.id for c in before]
