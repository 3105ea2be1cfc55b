import pytest

from tests.bench.board_factory import PlantedNoise, only_table
from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.website.answers import answers


class WithoutEma(PlantedNoise):
    def of(self, record):
        return {} if record.cell.method == "ema" else super().of(record)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"omse": 90.0}, {"omse": "no other measured"}),
        ({"omse": 90.0, "minmax": 80.0}, {"omse": "better than 1"}),
        (
            {"omse": 90.0, "repq_vit": 89.9, "minmax": 80.0},
            {"omse": "ties with 1 of 2", "repq_vit": "ties with 1 of 2"},
        ),
        ({"omse": 90.0, "minmax": 80.0, "ema": 70.0}, {"omse": "better than 1; 1 not compared"}),
        ({"omse": 90.0, "ema": 70.0}, {"omse": "not compared"}),
    ],
)
def test_an_answer_is_what_nothing_is_shown_to_beat_and_says_what_that_rests_on(scores, expected):
    table = only_table([make_record(make_cell(method=m), score=s) for m, s in scores.items()], WithoutEma())

    assert {answer.row.cell.method: answer.standing for answer in answers([table])} == expected


def test_a_row_with_an_audit_violation_is_no_answer():
    table = only_table([make_record(make_cell(method="omse"), score=90.0, violations=("w",)), make_record(score=80.0)])

    assert [answer.row.cell.method for answer in answers([table])] == ["minmax"]
