"""What a record must say about itself: each check names its own kind of difference, and an honest record passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.results import record_checks
from vitptq.bench.results.record import Record

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def dated(started: str, finished: str) -> Record:
    record = make_record()
    provenance = record.provenance.model_copy(update={"started": started, "finished": finished})
    return record.model_copy(update={"provenance": provenance})


def audited(**changes: Any) -> Record:
    record = make_record()
    assert record.audit is not None
    return record.model_copy(update={"audit": record.audit.model_copy(update=changes)})


def test_dates_in_their_order_hold() -> None:
    assert not list(record_checks.date_problems(dated("2026-11-27T10:00:00Z", "2026-11-27T10:01:00Z"), NOW))


@pytest.mark.parametrize(
    ("started", "finished", "words"),
    [
        ("2026-01-01T00:00:00Z", "2026-11-27T10:00:00Z", "before the project began"),
        ("2026-11-27T10:00:00Z", "2027-11-27T10:00:00Z", "in the future"),
        ("2026-11-27T10:00:00Z", "2026-11-27T09:00:00Z", "before it started"),
        ("yesterday", "2026-11-27T09:00:00Z", "which is no date"),
    ],
)
def test_dates_that_cannot_be_are_named(started: str, finished: str, words: str) -> None:
    (problem,) = record_checks.date_problems(dated(started, finished), NOW)
    assert words in problem


def test_less_time_than_its_parts_is_named() -> None:
    record = make_record()
    assert record.costs is not None
    assert not list(record_checks.cost_problems(record, None))
    short = record.costs.model_copy(update={"total_s": 0.5, "quantise_s": 1.0, "evaluate_s": 2.0})
    (problem,) = record_checks.cost_problems(record.model_copy(update={"costs": short}), None)
    assert "0.5 s in all is less than" in problem


def test_model_smaller_than_its_weights_at_their_bits_is_named() -> None:
    record = make_record()
    assert record.costs is not None
    costs = record.costs.model_copy(update={"model_mib": 8.0})
    float_record = record.model_copy(update={"costs": costs})
    tiny = record.model_copy(update={"costs": record.costs.model_copy(update={"model_mib": 0.25})})
    assert any("less than every weight at" in problem for problem in record_checks.cost_problems(tiny, float_record))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quantised_macs": 1}, "quantised multiply-accumulates, the record says 1"),
        ({"macs": 0}, "the audit saw no multiply-accumulate"),
        ({"operands": ()}, "operands in float"),
    ],
)
def test_audit_that_its_operands_do_not_give_is_named(changes: dict[str, Any], words: str) -> None:
    if "operands" in changes:
        changes = changes | {"float_operands": ("head: input",)}
    problems = list(record_checks.audit_problems(audited(**changes), None))
    assert any(words in problem for problem in problems), problems


def test_environment_that_its_versions_do_not_give_is_named() -> None:
    record = make_record()
    forged = record.provenance.model_copy(update={"environment": "0" * 16})
    (problem,) = record_checks.provenance_problems(record.model_copy(update={"provenance": forged}))
    assert "its versions and device give" in problem


@pytest.mark.parametrize(("form", "fits"), [("released", True), ("paper", False)])
def test_parity_is_stated_for_the_parameters_that_were_compared_alone(form: str, fits: bool) -> None:
    record = make_record(make_cell(method="repq-vit", parameters={"form": form}), fidelity="parity")
    found = [problem for problem in record_checks.fidelity_problems(record) if "fidelity" in problem]
    assert bool(found) != fits


def test_values_kept_in_float_are_no_more_than_a_group_has() -> None:
    record = make_record()
    assert record.audit is not None
    first, *rest = record.audit.operands
    for kept, group, fits in ((1, 197, True), (2, 1, False)):
        side = replace(first, float_values=kept, group=group, levels=17, grid=17)
        problems = list(record_checks.audit_problems(audited(operands=(side, *rest)), None))
        assert any("of a group in float" in problem for problem in problems) != fits


def test_branches_are_for_methods_that_add_them() -> None:
    record = make_record(make_cell(method="minmax", bits="W4A4+branch"), fidelity="reference")
    assert any("float branches are another category" in text for text in record_checks.fidelity_problems(record))
