"""Repeating a cell from its record."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.commands.command_line import TINY, vitptq
from vitptq.bench.errors import BadInput
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record
from vitptq.bench.run import reproduction
from vitptq.bench.run.cell_run import Run, run_cell


def measured(run: Run, cells: list[Cell]) -> Record:
    for cell in cells:
        if cell.method == "minmax":
            record = run_cell(cell, run)
            assert record is not None and record.status == "ok"
            return record
    raise AssertionError


def test_record_is_found_by_the_first_digits_of_its_id(run: Run, cells: list[Cell]) -> None:
    record = measured(run, cells)
    assert reproduction.find_record(record.id[:8], run.store) == record


@pytest.mark.parametrize("name", ["zz", "abc", "../x", "0000000"])
def test_name_of_no_record_is_said_with_what_to_give(run: Run, cells: list[Cell], name: str) -> None:
    measured(run, cells)
    with pytest.raises(BadInput, match="names no record of .*give the path of its .json file"):
        reproduction.find_record(name, run.store)


def test_changed_adapter_is_told_with_the_commit_that_has_the_old_one(run: Run, cells: list[Cell]) -> None:
    record = measured(run, cells)
    other = record.cell.model_copy(update={"source": "0" * 16, "data": "of last year"})
    provenance = record.provenance.model_copy(update={"commit": "0123456789" * 4})
    changed = record.model_copy(update={"cell": other, "provenance": provenance})
    with pytest.raises(BadInput, match=r"data are .* source of method minmax has changed; git checkout 012345678901"):
        reproduction.repeatable_cell(changed)


def test_one_digit_of_a_score_is_a_difference(run: Run, cells: list[Cell]) -> None:
    record = measured(run, cells)
    other = record.model_copy(update={"scores": record.scores | {"top1": 12.5}})
    assert reproduction.compare(record, record).equal
    verdict = reproduction.compare(record, other)
    assert not verdict.equal
    assert any(line.startswith("scores.top1: ") and "12.5 now" in line for line in verdict.lines)


def test_another_version_is_named_beside_the_verdict(run: Run, cells: list[Cell]) -> None:
    record = measured(run, cells)
    versions = record.provenance.versions | {"timm": "0.9"}
    other = record.model_copy(update={"provenance": record.provenance.model_copy(update={"versions": versions})})
    assert any("0.9 now" in line for line in reproduction.compare(record, other).lines)


def test_command_measures_again_and_agrees(
    run: Run, cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = measured(run, cells)
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")  # the command sets it; put back afterwards
    text = vitptq(
        "reproduce", record.id[:10], "--results", str(run.store.root), "--out", str(tmp_path / "again"), *TINY
    )
    assert "reproduced to the last bit, in the same environment" in text
    assert (tmp_path / "again" / "records" / f"{record.id}.json").is_file()
