"""Score against parameters."""

from __future__ import annotations

import itertools

import pytest

from tests.bench.record_factory import make_audit, make_cards, make_cell, make_record
from vitptq.bench.board.board import Board
from vitptq.bench.website import charts, parameter_charts


def record(removed: int, parameters: int, score: float, model: str = "vit_mini", dense: str = "W32A32"):
    bits = f"{dense}+lowrank{removed}" if removed else "W32A32"
    changes = {} if removed else {"method": "float", "calibration_size": 0, "calibration_list": ""}
    cell = make_cell(bits=bits, model=model, **changes)
    audit = make_audit(cell).model_copy(update={"parameters": {"body": parameters}})
    return make_record(cell, score=score, float_score=90.0, audit=audit)


def drawn(*records, size=charts.WIDE):
    board = Board.from_records(records, make_cards())
    return parameter_charts.draw(board.tables, charts.styles(sorted(board.cards)), size)


@pytest.mark.parametrize("size", [charts.WIDE, charts.NARROW])
def test_fewer_parameters_stand_further_left_and_lower_scores_lower(size) -> None:
    chart = drawn(record(0, 1000, 90), record(20, 800, 88), record(60, 400, 70), size=size)
    compressed, whole = chart.lines
    left, right = compressed.points
    assert size.left < left.x < right.x < whole.points[0].x <= size.right_edge
    assert left.y > right.y > whole.points[0].y
    assert (whole.label, whole.path) == ("float", "")


def test_factors_on_a_grid_are_a_line_of_their_own() -> None:
    chart = drawn(record(20, 800, 88), record(40, 600, 80), record(20, 800, 87, dense="W8A8"))
    assert [len(line.points) for line in chart.lines] == [2, 1]
    assert "W8A8" in chart.lines[1].label


def test_models_of_one_task_are_told_apart() -> None:
    chart = drawn(record(20, 800, 88), record(20, 400, 80, model="vit_small"), size=charts.NARROW)
    assert {line.label for line in chart.lines} == {"vit_mi…MinMax", "vit_sm…MinMax"}


def test_nothing_is_drawn_without_low_rank_rows() -> None:
    assert drawn(record(0, 1000, 90), make_record()) is None


def test_ticks_are_round_and_few() -> None:
    chart = drawn(record(20, 22_050_000, 88), record(60, 5_700_000, 70))
    assert [text for _, text in chart.columns] == ["0", "5 M", "10 M", "15 M", "20 M"]
    assert all(a < b for (a, _), (b, _) in itertools.pairwise(chart.columns))
