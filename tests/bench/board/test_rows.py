import pytest

from tests.bench.board_factory import board_of, only_row, row_of, seeds
from tests.bench.noise_factory import PlantedNoise
from tests.bench.record_factory import (
    TOP1,
    make_cards,
    make_cell,
    make_costs,
    make_detection_records,
    make_record,
)
from vitptq.bench.board.board import Board
from vitptq.bench.contracts.task import Metric


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
    top5 = Metric("top5", "Top-5 accuracy", proportion=True)
    whole = make_record(make_cell(seed=0), scores={"top1": 80.0, "top5": 95.0}, metrics=(TOP1, top5))
    row = only_row([whole, make_record(make_cell(seed=1), score=81.0)])

    assert row.mean(TOP1) == 80.5
    assert row.mean(top5) is None
    assert row.interval_of(top5) is None


def test_a_cost_that_one_seed_lacks_has_no_mean():
    cell = make_cell(seed=1)
    costs = make_costs(cell).model_copy(update={"peak_device_mib": 100.0})
    row = only_row([make_record(make_cell(seed=0)), make_record(cell, costs=costs)])

    assert row.cost("peak_device_mib") is None
    assert row.cost("peak_host_mib") == 812.0
    with pytest.raises(KeyError):
        row.cost("price")


def test_two_parameterisations_have_two_identities():
    rows = [only_row([make_record(make_cell(parameters={"a": a}))]) for a in ("1.5", "1,5")]

    assert rows[0].id != rows[1].id


def test_a_row_tells_its_status_and_its_reasons():
    rows = board_of(make_record(make_cell(seed=0)), make_record(make_cell(seed=1), failure="hung")).rows

    assert rows[0].status == "incomplete"
    assert rows[0].reason == "seed 1: hung: hung on purpose"


def test_secondary_scores_stand_beside_the_ranking_one_and_details_do_not():
    row = row_of(Board.from_records(make_detection_records(), make_cards()), bits="W4A4")

    assert row.metric.title == "Box AP"
    assert [metric.title for metric in row.secondary] == ["Mask AP"]
    assert [metric.name for metric in row.scored] == ["box_ap", "box_ap50", "mask_ap"]


def test_a_secondary_score_has_its_drop_where_the_float_record_is_of_the_same_environment():
    here, elsewhere = make_detection_records(), make_detection_records(environment="another")
    rows = [row_of(Board.from_records(records, make_cards()), bits="W4A4") for records in (here, elsewhere)]

    assert rows[0].mean_drop(rows[0].secondary[0]) == pytest.approx(38.0 - 41.6)
    assert rows[1].mean_drop(rows[1].secondary[0]) is None
    assert rows[1].drop == pytest.approx(42.0 - 46.0)


def test_a_score_without_its_ranking_part_has_no_drop():
    row = only_row([make_record(scores={"top5": 95.0})])

    assert (row.score, row.drop) == (None, None)
    assert [metric.title for metric in row.secondary] == ["top5"]


def test_a_score_that_is_no_share_of_images_has_an_interval_from_one_seed_where_evidence_tells():
    row = row_of(board_of(*make_detection_records()), method="minmax")

    for metric in (row.metric, *row.secondary):
        interval = row.interval_of(metric)
        assert interval.covers == "images"
        assert interval.half_width == pytest.approx(1.96, rel=0.1)
        assert interval.low < row.mean(metric) < interval.high


def test_draws_without_evidence_are_missing_and_give_no_interval():
    class First(PlantedNoise):
        def of(self, record):
            return super().of(record) if record.cell.seed == 0 else {}

    row = row_of(board_of(*make_detection_records(seeds=2), noises=First()), method="minmax")
    assert list(row.draws(row.metric)) == [0]
    assert row.interval.covers == "seeds"
