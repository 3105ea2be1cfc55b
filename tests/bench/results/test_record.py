"""Records: what old ones lack, what none may hold, and what must be equal when a cell is measured again."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from tests.bench.record_factory import TOP1, make_cell, make_record
from vitptq.bench.results.record import Record


def test_a_record_keeps_the_metrics_of_its_task() -> None:
    record = make_record(metrics=(TOP1,))
    assert Record.model_validate_json(record.model_dump_json()).metrics == (TOP1,)


def test_a_record_older_than_the_metrics_has_none() -> None:
    older = make_record().model_dump(mode="json")
    del older["metrics"]
    assert Record.model_validate(older).metrics == ()


@pytest.mark.parametrize("change", [{"unit": "points"}, {"title": 3}, {"proportion": "perhaps"}])
def test_a_metric_that_is_not_one_is_refused(change: dict[str, object]) -> None:
    forged = make_record().model_dump(mode="json")
    forged["metrics"][0] |= change
    with pytest.raises(ValidationError, match="metrics"):
        Record.model_validate(forged)


def test_a_result_does_not_depend_on_run_time_settings() -> None:
    cells = (make_cell(run_time={"memory_mb": size}) for size in (256, 4096))
    small, large = (make_record(cell) for cell in cells)
    assert small != large
    assert small.result() == large.result()


def test_a_result_depends_on_the_notes() -> None:
    assert make_record(notes=("reduced",)).result() != make_record().result()


@pytest.mark.parametrize("details", [{"task": {"x": [math.nan]}}, {"method": {"figures": {"loss": math.inf}}}])
def test_numbers_that_json_does_not_have_are_refused(details: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="finite"):
        make_record(details=details)
