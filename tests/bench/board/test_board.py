import itertools

import pytest

from tests.bench.record_factory import (
    make_card,
    make_cards,
    make_cell,
    make_costs,
    make_provenance,
    make_record,
    realistic_board,
    realistic_records,
)
from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board, metric_title
from vitptq.bench.results.cell import sha256


def only_row(records, cards=None):
    (row,) = Board.from_records(records, make_cards() if cards is None else cards).rows
    return row


def seeds(*scores, **changes):
    return [make_record(make_cell(seed=i, **changes), score=s) for i, s in enumerate(scores)]


def row_of(board, **wanted):
    (row,) = (r for r in board.rows if all(getattr(r.cell, k) == v for k, v in wanted.items()))
    return row


def test_no_records_make_an_empty_board():
    board = Board.from_records([], make_cards())

    assert board.tables == ()
    assert board.records == 0


def test_a_score_is_the_mean_over_seeds_with_its_drop_against_float():
    row = only_row(seeds(80.0, 81.0, 82.0))

    assert row.score == 81.0
    assert row.seeds == (0, 1, 2)
    assert row.drop == pytest.approx(81.0 - 94.1)
    assert row.images == 3000
    assert row.interval.covers == "images and seeds"


def test_the_drop_is_taken_against_the_float_score_of_each_seeds_environment():
    here = make_record(make_cell(seed=0), score=80.0, float_score=94.0)
    there = make_record(make_cell(seed=1), score=81.0, float_score=93.0)

    assert only_row([here, there]).drop == pytest.approx((-14.0 - 12.0) / 2)


def test_a_failed_seed_is_named_and_never_changes_the_mean_silently():
    failed = make_record(make_cell(seed=2), failure="out_of_memory")
    row = only_row([*seeds(80.0, 81.0), failed])

    assert row.score == 80.5
    assert (row.seeds, row.missing_seeds, row.expected_seeds) == ((0, 1), (2,), (0, 1, 2))
    assert [b.text for b in row.badges] == ["2 of 3 seeds"]
    assert "seed 2" in row.badges[0].meaning


def test_a_seed_that_was_never_run_is_missing_where_other_rows_have_it():
    board = Board.from_records([*seeds(80.0, 81.0), *seeds(90.0, method="omse")], make_cards())

    row = row_of(board, method="omse")
    assert row.score == 90.0
    assert row.missing_seeds == (1,)
    assert "1 of 2 seeds" in [b.text for b in row.badges]


def test_a_seed_behind_a_failed_gate_is_apart_and_not_in_the_mean():
    refused = make_record(make_cell(seed=2), score=10.0, passed=False)
    row = only_row([*seeds(80.0, 81.0), refused])

    assert row.score == 80.5
    assert row.apart == (refused,)


def test_a_row_without_a_counted_seed_has_no_score():
    board = Board.from_records([make_record(passed=False)], make_cards())

    assert board.rows[0].score is None
    assert board.rows[0].interval is None
    assert board.tables[0].counted == ()


def test_a_score_that_one_seed_lacks_has_no_mean():
    whole = make_record(make_cell(seed=0), scores={"top1": 80.0, "top5": 95.0})
    row = only_row([whole, make_record(make_cell(seed=1), score=81.0)])

    assert row.mean("top1") == 80.5
    assert row.mean("top5") is None
    assert row.interval_of("top5") is None


def test_a_cost_that_one_seed_lacks_has_no_mean():
    cell = make_cell(seed=1)
    costs = make_costs(cell).model_copy(update={"peak_device_mib": 100.0})
    row = only_row([make_record(make_cell(seed=0)), make_record(cell, costs=costs)])

    assert row.cost("peak_device_mib") is None
    assert row.cost("peak_host_mib") == 812.0
    with pytest.raises(KeyError):
        row.cost("price")


def finished(day):
    return make_provenance(finished=f"2026-01-{day:02}T00:00:00+00:00")


def test_the_newest_record_of_a_slot_replaces_the_older_one():
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


def test_the_same_record_from_two_folders_counts_once():
    record = make_record()

    assert Board.from_records([record, record], make_cards()).records == 1


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


def test_rows_are_read_float_first_then_more_bits_then_higher_scores():
    table = realistic_board().tables[2]
    keys = [(not r.is_float, -r.bits.weights, -r.score) for r in table.counted]

    assert keys == sorted(keys)


def test_rows_with_equal_scores_keep_one_order():
    records = [make_record(make_cell(method=m)) for m in ("omse", "minmax", "ema")]
    orders = {tuple(r.id for r in Board.from_records(p, make_cards()).rows) for p in itertools.permutations(records)}

    assert len(orders) == 1


def test_the_board_does_not_depend_on_the_order_of_the_records():
    records = realistic_records()

    forwards, backwards = (Board.from_records(r, make_cards()) for r in (records, records[::-1]))
    assert forwards.rows == backwards.rows


def test_an_audit_violation_is_a_badge_and_keeps_the_row_from_the_highest():
    cheat = make_record(make_cell(method="ema"), score=94.0, violations=["head stayed float"])
    board = Board.from_records([cheat, make_record(score=80.0)], make_cards())

    assert row_of(board, method="ema").badges[0].text == "audit: 1 violation"
    assert board.tables[0].highest(BitSpec(4, 4)) is row_of(board, method="minmax")


def test_notes_and_inferred_parts_are_badges():
    record = make_record(make_cell(method="omse"), notes=("reduced: 10 iterations",))

    assert [b.text for b in only_row([record]).badges] == ["inferred", "reduced"]
    assert [b.text for b in only_row([make_record(notes=("odd",))]).badges] == ["note"]


def test_a_row_stands_out_only_where_no_interval_overlaps():
    far = [make_record(make_cell(method="omse"), score=90.0), make_record(score=80.0)]
    near = [make_record(make_cell(method="omse"), score=80.5), make_record(score=80.0)]
    for records, expected in [(far, True), (near, False), (far[:1], False)]:
        table = Board.from_records(records, make_cards()).tables[0]
        row = table.highest(BitSpec(4, 4))
        assert table.stands_out(row) is expected


def test_a_method_without_its_adapter_is_shown_by_its_records():
    row = only_row([make_record(make_cell(method="theirs"))], cards={})

    assert (row.card.title, row.card.known, row.card.fidelity) == ("theirs", False, "paper")


def test_two_parameterisations_have_two_identities():
    rows = [only_row([make_record(make_cell(parameters={"a": a}))]) for a in ("1.5", "1,5")]

    assert rows[0].id != rows[1].id


def test_failures_are_listed_with_their_rows():
    board = realistic_board()

    assert {record.failure.kind for _, record in board.failures} == {"unsupported", "out_of_memory"}


def test_metrics_have_titles_and_unknown_ones_their_name():
    assert (metric_title("top1"), metric_title("theirs")) == ("Top-1 accuracy", "theirs")


def test_a_card_holds_what_its_adapter_says():
    assert only_row([make_record()], {"minmax": make_card("minmax", title="Ours")}).label == "Ours"


def test_tasks_stand_side_by_side_at_the_bits_that_most_models_share():
    cells = [
        make_cell(task=task, model=model, bits=bits)
        for task, model in (("classification", "vit"), ("coco", "mask_rcnn"))
        for bits in ("W8A8", "W4A4")
    ]
    cells.append(make_cell(task="coco", model="mask_rcnn", bits="W3A3"))
    cells.append(make_cell(task="classification", model="vit", method="omse"))
    (comparison,) = Board.from_records([make_record(cell) for cell in cells], make_cards()).comparisons()
    assert [(task, [t.model for t in tables]) for task, tables in comparison.tasks] == [
        ("classification", ["vit"]),
        ("coco", ["mask_rcnn"]),
    ]
    assert str(comparison.bits) == "W4A4"
    assert [[row and row.cell.method for row in line] for line in comparison.lines] == [
        ["minmax", "minmax"],
        ["omse", None],
    ]


def test_one_task_alone_is_no_comparison():
    assert Board.from_records([make_record(make_cell())], make_cards()).comparisons() == ()


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
