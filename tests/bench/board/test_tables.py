import itertools

from tests.bench.board_factory import row_of
from tests.bench.record_factory import (
    make_cards,
    make_cell,
    make_record,
    realistic_board,
)
from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board


def test_rows_are_read_float_first_then_more_bits_then_higher_scores():
    table = realistic_board().tables[2]
    keys = [(not r.is_float, -r.bits.weights, -r.score) for r in table.counted]

    assert keys == sorted(keys)


def test_rows_with_equal_scores_keep_one_order():
    records = [make_record(make_cell(method=m)) for m in ("omse", "minmax", "ema")]
    orders = {tuple(r.id for r in Board.from_records(p, make_cards()).rows) for p in itertools.permutations(records)}

    assert len(orders) == 1


def test_a_row_stands_out_only_where_no_interval_overlaps():
    far = [make_record(make_cell(method="omse"), score=90.0), make_record(score=80.0)]
    near = [make_record(make_cell(method="omse"), score=80.5), make_record(score=80.0)]
    for records, expected in [(far, True), (near, False), (far[:1], False)]:
        table = Board.from_records(records, make_cards()).tables[0]
        row = table.highest(BitSpec(4, 4))
        assert table.stands_out(row) is expected


def test_rows_that_the_data_cannot_separate_share_a_rank():
    scores = {"repq_vit": 90.0, "omse": 89.5, "minmax": 80.0, "psaq": 70.0}
    records = [make_record(make_cell(method=name), score=score) for name, score in scores.items()]
    table = Board.from_records(records, make_cards()).tables[0]
    ranks = {row.cell.method: table.rank(row) for row in table.quantised}
    assert ranks == {"repq_vit": 1, "omse": 1, "minmax": 3, "psaq": 4}


def test_data_free_rows_have_a_mark_and_a_rank_of_their_own():
    records = [make_record(make_cell(method=name), score=score) for name, score in (("minmax", 80.0), ("psaq", 70.0))]
    table = Board.from_records(records, make_cards()).tables[0]
    made, real = row_of(table, method="psaq"), row_of(table, method="minmax")
    assert (table.rank(made), table.rank(made, "data-free")) == (2, 1)
    assert (table.rank(real), table.rank(real, "data-free")) == (1, None)
    assert "data-free" in [badge.text for badge in made.badges]
    assert "data-free" not in [badge.text for badge in real.badges]


def test_a_row_with_an_audit_violation_has_no_rank():
    table = Board.from_records([make_record(violations=("float linear",))], make_cards()).tables[0]
    assert table.rank(table.quantised[0]) is None
