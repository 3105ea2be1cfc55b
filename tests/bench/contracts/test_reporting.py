"""What a method tells: kept as told, and refused at the call where a record could not hold it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitptq.bench.contracts import reporting
from vitptq.bench.errors import BadInput


def test_nothing_is_told_outside() -> None:
    reporting.report("alone", 0, 1)
    reporting.note("alone")
    reporting.note_details("alone", 1)
    reporting.note_table("alone", [{"a": 1}])
    assert reporting.work_folder() is None
    with reporting.listening() as log:
        pass
    assert (log.notes, log.figures, log.tables) == ([], {}, {})


def test_one_inside_another_hears_alone(tmp_path: Path) -> None:
    with reporting.listening(folder=tmp_path) as outer:
        with reporting.listening() as inner:
            reporting.note("inside")
            assert reporting.work_folder() is None
        reporting.note("outside")
        assert reporting.work_folder() == tmp_path
    assert (inner.notes, outer.notes) == (["inside"], ["outside"])


def test_figures_and_tables_are_kept_apart() -> None:
    with reporting.listening() as log:
        reporting.note_details("seconds", 1.5)
        reporting.note_table("units", [{"unit": "a", "loss": {"before": 2, "after": None}}], "what it means")
    assert log.figures == {"seconds": 1.5}
    assert list(log.tables) == ["units"]
    assert log.tables["units"].text == "what it means"
    assert log.tables["units"].rows == ({"unit": "a", "loss": {"before": 2, "after": None}},)


def test_what_was_told_does_not_change_with_the_methods_own_lists() -> None:
    mine: dict[str, Any] = {"losses": [1.0]}
    with reporting.listening() as log:
        reporting.note_details("mine", mine)
        mine["losses"].append(math.nan)
    assert log.figures == {"mine": {"losses": [1.0]}}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, 'told nan in note_details("loss"); give finite numbers'),
        ([{"units": [1.0, -math.inf]}], 'told -inf in note_details("loss")[0]["units"][1];'),
        (np.float64("nan"), 'told nan in note_details("loss")'),
        (np.float32(1), 'told a float32 in note_details("loss")'),
        ({"a": {3: 4}}, 'the key 3 in note_details("loss")["a"]'),
        ({1, 2}, 'told a set in note_details("loss")'),
    ],
)
def test_a_figure_that_no_record_can_hold_is_refused_by_method_and_key(value: Any, words: str) -> None:
    with reporting.listening(method="planted") as log, pytest.raises(BadInput) as refused:
        reporting.note_details("loss", value)
    assert str(refused.value).startswith("method planted told ")
    assert words in str(refused.value)
    assert log.figures == {}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"a": 1}, {"a": math.nan}], 'told nan in note_table("units") row 1["a"]'),
        ([{"a": 1}, [2]], 'told a row in note_table("units") that is no mapping'),
    ],
)
def test_a_row_that_no_record_can_hold_is_refused_by_method_and_key(rows: Any, words: str) -> None:
    with reporting.listening(method="planted") as log, pytest.raises(BadInput) as refused:
        reporting.note_table("units", rows)
    assert words in str(refused.value)
    assert log.tables == {}


def test_a_note_that_is_no_text_is_refused() -> None:
    with reporting.listening(method="planted"), pytest.raises(BadInput, match="method planted told 3 as a note"):
        reporting.note(3)  # type: ignore[arg-type]
