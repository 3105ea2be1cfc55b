"""What the board knows of scores: from records, from the installed task, or by their names alone."""

from tests.bench.board_factory import only_row, only_table
from tests.bench.record_factory import TOP1, make_cards, make_cell, make_record
from vitptq.bench.board.board import Board
from vitptq.bench.board.metrics import UNNAMED, needs_tasks, secondary, table_metrics
from vitptq.bench.contracts.task import Metric

ACCURACY = Metric("accuracy", "Accuracy of theirs", proportion=True)


def test_a_third_partys_share_of_images_has_its_title_an_interval_and_a_rank():
    table = only_table([make_record(make_cell(task="theirs"), scores={"accuracy": 80.0}, metrics=(ACCURACY,))])
    (row,) = table.quantised

    assert table.metric.title == "Accuracy of theirs"
    assert row.interval is not None and row.interval.covers == "images"
    assert str(table.rank(row)) == "1"


def test_the_marked_metric_ranks_wherever_it_stands():
    fast, first = Metric("first", "First"), Metric("second", "Second", ranks=True)
    record = make_record(scores={"first": 10.0, "second": 90.0}, metrics=(fast, first))

    assert only_row([record]).score == 90.0


def test_a_record_without_its_metrics_has_those_of_the_installed_task():
    record = make_record(scores={"accuracy": 80.0}, metrics=())
    declared = {("classification", "mini"): [ACCURACY]}
    (row,) = Board.from_records([record], make_cards(), declared).rows

    assert row.metric == ACCURACY
    assert needs_tasks([record]) and not needs_tasks([make_record()])


def test_a_record_that_nothing_is_known_of_has_the_names_of_its_scores():
    row = only_row([make_record(scores={"accuracy": 80.0, "speed": 3.0}, metrics=())])

    assert [metric.title for metric in row.metrics] == ["accuracy", "speed"]
    assert (row.score, row.interval) == (80.0, None)


def test_the_newest_record_that_holds_metrics_speaks_for_all():
    bare, old, new = (
        make_record(make_cell(seed=seed), metrics=metrics)
        for seed, metrics in enumerate([(), (TOP1,), (Metric("top1", "Renamed"),)])
    )

    assert table_metrics([bare, new, old]) == (Metric("top1", "Renamed"),)


def test_a_metric_that_no_record_has_a_score_of_is_left_out():
    large = Metric("large", "Large")

    assert table_metrics([make_record(metrics=(TOP1, large))]) == (TOP1,)


def test_a_table_without_any_score_has_one_unnamed_metric():
    assert table_metrics([make_record(failure="raised")]) == (UNNAMED,)


def test_details_are_not_secondary():
    assert secondary((TOP1, Metric("a", "A", detail=True), ACCURACY)) == (ACCURACY,)
