"""Records: what old ones lack, and what none may hold."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.bench.record_factory import TOP1, make_record
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
