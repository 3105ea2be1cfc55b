"""Records of schema versions 1 and 2, as they lie on disks, read as version 3."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.errors import BadInput
from vitptq.bench.results.record import SCHEMA_VERSION, Details, Record
from vitptq.bench.results.store import Store

IMAGES = {"generated": {"file": "a.generated.npz", "sha256": "0" * 64, "bytes": 7}}


def version_1(details: Any) -> str:
    """Return the text of a record as the first version of the schema wrote it."""
    raw = make_record().model_dump(mode="json") | {"schema_version": 1, "details": details}
    del raw["cell"]["run_time"]
    return json.dumps(raw)


def upgraded(**details: Any) -> Details:
    record = Record.model_validate_json(version_1(details))
    assert record.schema_version == SCHEMA_VERSION
    return record.details


def test_details_are_sorted_by_who_said_them() -> None:
    details = upgraded(
        data={"version": "mini-1"}, batch_size=20, calibration_images="c0ffee", repeat="vitptq run mini",
        method={"generation_s": 1.5}, images=IMAGES,
    )  # fmt: skip
    assert details.task == {"data": {"version": "mini-1"}, "batch_size": 20}
    assert (details.repetition.command, details.repetition.calibration_images) == ("vitptq run mini", "c0ffee")
    assert details.method.figures == {"generation_s": 1.5}
    assert details.method.images["generated"].file == "a.generated.npz"


def test_what_version_1_showed_as_a_table_is_one() -> None:
    rows = [{"unit": "a", "loss": {"before": 0.5}}, {"unit": "b"}]
    importance = {"kind": "aph", "text": "what it means", "rows": rows}
    told = upgraded(method={"scales": rows, "importance": importance}).method
    assert {name: (table.text, list(table.rows)) for name, table in told.tables.items()} == {
        "scales": ("", rows), "importance": ("what it means", rows),
    }  # fmt: skip
    assert told.figures == {"importance": {"kind": "aph"}}


@pytest.mark.parametrize("value", [3, None, [], ["a"], [{"a": 1}, 2], {"rows": []}, {"a": 1}])
def test_any_other_shape_is_a_figure(value: Any) -> None:
    told = upgraded(method={"value": value}).method
    assert (told.figures, told.tables) == ({"value": value}, {})


@pytest.mark.parametrize("details", [{"images": 3}, {"images": {"generated": {"file": "../secret"}}}, {"method": "x"}])
def test_a_word_that_a_task_used_for_something_else_stays_the_tasks(details: dict[str, Any]) -> None:
    assert upgraded(**details) == Details(task=details)


def test_the_cell_of_an_old_record_keeps_its_id(tmp_path: Path) -> None:
    cell = make_cell(parameters={"memory_mb": 4096})  # was a part of the identity then
    path = tmp_path / "records" / f"{cell.id}.json"
    path.parent.mkdir()
    raw = make_record(cell).model_dump(mode="json") | {"schema_version": 1, "details": {}}
    del raw["cell"]["run_time"]
    path.write_text(json.dumps(raw))
    (record,) = Store(tmp_path).records()
    assert (record.id, record.cell) == (cell.id, cell)
    assert json.loads(path.read_text())["schema_version"] == 1  # files stay as they are


@pytest.mark.parametrize("details", [3, "text", [1]])
def test_details_that_never_were_valid_are_refused(tmp_path: Path, details: Any) -> None:
    path = tmp_path / "records" / f"{make_cell().id}.json"
    path.parent.mkdir()
    path.write_text(version_1(details))
    with pytest.raises(BadInput, match="does not fit the schema"):
        Store(tmp_path).records()


def version_2(record: Record) -> dict[str, Any]:
    """Return a record as the second version wrote it: its operands are a list."""
    assert record.audit
    raw = record.model_dump(mode="json") | {"schema_version": 2}
    raw["audit"]["operands"] = [asdict(operand) for operand in record.audit.operands]
    return raw


def test_list_of_operands_is_read_as_the_table_that_it_is_now() -> None:
    record = make_record()
    assert record.audit
    assert record.audit.operands
    assert Record.model_validate_json(json.dumps(version_2(record))) == record


def test_record_of_version_2_is_written_anew_in_columns() -> None:
    text = Record.model_validate(version_2(make_record())).model_dump_json()
    assert json.loads(text)["audit"]["operands"]["module"] == [o.module for o in make_record().audit.operands]  # type: ignore[union-attr]
    assert json.loads(text)["schema_version"] == SCHEMA_VERSION


def test_columns_that_tell_nothing_are_left_out() -> None:
    columns = make_record().model_dump(mode="json")["audit"]["operands"]
    assert "off_grid" not in columns
    assert "float_values" not in columns


@pytest.mark.parametrize("columns", [{"module": ["a", "b"], "op": ["linear"]}, {"module": "ab", "op": "cd"}])
def test_ragged_table_of_operands_is_refused(columns: dict[str, Any]) -> None:
    raw = make_record().model_dump(mode="json")
    raw["audit"]["operands"] = columns
    with pytest.raises(ValueError, match="columns of the table of operands"):
        Record.model_validate(raw)
