import itertools

from tests.bench.board_factory import finished, only_row, row_of, seeds
from tests.bench.record_factory import (
    make_cards,
    make_cell,
    make_record,
)
from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.results.cell import sha256


def test_a_seed_that_was_never_run_is_missing_where_other_rows_have_it():
    board = Board.from_records([*seeds(80.0, 81.0), *seeds(90.0, method="omse")], make_cards())

    row = row_of(board, method="omse")
    assert row.score == 90.0
    assert row.missing_seeds == (1,)
    assert "1 of 2 seeds" in [b.text for b in row.badges]


def test_the_newest_record_of_a_cell_replaces_the_older_one():
    old = make_record(make_cell(source=sha256(b"old")), score=99.0, provenance=finished(1))
    new = make_record(make_cell(source=sha256(b"new")), score=80.0, provenance=finished(2))

    for order in itertools.permutations([old, new]):
        row = only_row(order)
        assert (row.score, row.superseded) == (80.0, 1)


def test_a_newer_failure_replaces_an_older_score():
    old = make_record(make_cell(source=sha256(b"old")), score=99.0, provenance=finished(1))
    new = make_record(make_cell(source=sha256(b"new")), failure="raised", provenance=finished(2))

    assert only_row([old, new]).score is None


def test_records_finished_at_the_same_time_are_told_apart_by_their_id():
    rivals = [make_record(make_cell(source=sha256(s)), score=80.0) for s in (b"a", b"b", b"c")]

    winners = {only_row(order).records[0].id for order in itertools.permutations(rivals)}
    assert winners == {max(r.id for r in rivals)}


def test_seeds_of_two_versions_are_never_averaged():
    old = make_record(make_cell(seed=0, source=sha256(b"old")), score=99.0, provenance=finished(1))
    new = make_record(make_cell(seed=1, source=sha256(b"new")), score=80.0, provenance=finished(2))
    row = only_row([old, new])

    assert row.score == 80.0
    assert row.outdated == (old,)
    assert row.missing_seeds == (0,)


def test_rows_on_older_data_say_so_and_are_not_compared():
    old = make_record(make_cell(method="omse", data="mini-0"), score=99.0, provenance=finished(1))
    board = Board.from_records([old, make_record(provenance=finished(2))], make_cards())

    assert "older data" in [b.text for b in row_of(board, method="omse").badges]
    assert board.tables[0].highest(BitSpec(4, 4)) is row_of(board, method="minmax")


def test_parameters_set_rows_of_one_method_apart():
    cells = [make_cell(method="percentile", parameters={"p": p, "same": 1}) for p in (0.99, 0.999)]
    board = Board.from_records(map(make_record, cells), make_cards())

    assert [r.label for r in board.rows] == ["Percentile (p=0.99)", "Percentile (p=0.999)"]


def test_track_and_calibration_size_set_rows_apart():
    cells = [make_cell(), make_cell(track="published", calibration_size=1024)]
    board = Board.from_records(map(make_record, cells), make_cards())

    assert sorted(r.label for r in board.rows) == ["MinMax (1024 images, published settings)", "MinMax (32 images)"]


def test_another_precision_is_a_row_of_its_own_that_is_not_compared():
    records = [make_record(make_cell(precision=precision), score=80.0) for precision in ("fp32", "bf16")]
    rows = {row.cell.precision: row for row in Board.from_records(records, make_cards()).tables[0].rows}

    assert rows["fp32"].id != rows["bf16"].id
    assert (rows["fp32"].variant, rows["bf16"].variant) == ("", "evaluated in bf16")
    assert (rows["fp32"].comparable, rows["bf16"].comparable) == (True, False)
