"""The store: whole files only, immutable records, clear words about damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitptq.bench.errors import BadInput, Missing
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store
from vitptq.bench.run.cell_run import Run, run_cell


@pytest.fixture
def record(run: Run, cells: list[Cell]) -> Record:
    made = run_cell(cells[0], run)
    assert made is not None
    assert made.status == "ok"
    return made


def test_record_reads_back_equal(run: Run, record: Record) -> None:
    assert run.store.record(record.cell) == record
    assert run.store.records() == [record]


def test_measured_record_is_immutable(run: Run, record: Record) -> None:
    with pytest.raises(BadInput, match="immutable"):
        run.store.add(record)


def test_evidence_is_sixteen_bits_per_image(run: Run, record: Record) -> None:
    assert record.evidence is not None
    evidence = run.store.evidence(record.evidence)
    assert {values.dtype for values in evidence.values()} == {np.dtype(np.int16)}


def test_changed_evidence_is_noticed(run: Run, record: Record) -> None:
    assert record.evidence is not None
    path = run.store.evidence_dir / record.evidence.file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BadInput, match="its record says"):
        run.store.evidence(record.evidence)
    path.unlink()
    with pytest.raises(Missing, match="measure the cell again"):
        run.store.evidence(record.evidence)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "is not JSON"),
        (lambda text: text.replace('"seed":0', '"seed":1'), "is not the hash of the cell"),
        (lambda text: text.replace('"status"', '"statu"'), "does not fit the schema"),
        (lambda text: text.replace('"schema_version":3', '"schema_version":99'), "update vitptq"),
    ],
)
def test_damaged_record_is_named_and_the_rest_stays_readable(
    run: Run, record: Record, change: Callable[[str], str], words: str
) -> None:
    path = run.store.records_dir / f"{record.id}.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(BadInput, match=words):
        run.store.records()
    assert len(run.store.problems()) == 1
    assert str(path) in run.store.problems()[0]
    assert run.store.readable() == []


def test_record_under_another_name_is_refused(run: Run, record: Record) -> None:
    path = run.store.records_dir / f"{record.id}.json"
    path.rename(path.with_stem("0" * 64))
    with pytest.raises(BadInput, match="named after its cell"):
        run.store.records()


def test_left_over_temporary_files_are_not_read(run: Run, record: Record) -> None:
    (run.store.records_dir / f".{record.id}.json.abc.tmp").write_text("half")
    assert run.store.records() == [record]


def test_merging_is_copying(run: Run, record: Record, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run.store.root / "records", tmp_path / "merged" / "records")
    shutil.copytree(run.store.root / "evidence", tmp_path / "merged" / "evidence")
    assert Store(tmp_path / "merged").records() == [record]


def test_a_claimed_cell_is_left_to_its_holder(run: Run, cells: list[Cell]) -> None:
    with run.store.claimed(cells[0]) as mine:
        assert mine
        assert run_cell(cells[0], run) is None
    assert run_cell(cells[0], run) is not None


def test_results_that_are_a_file_are_one_sentence(cells: list[Cell], tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    store = Store(tmp_path / "results")
    with pytest.raises(BadInput, match="name another with --results"):
        store.probe()
    with pytest.raises(BadInput, match="name another with --results"), store.claimed(cells[0]):
        pass


def test_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    Store(tmp_path).probe()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_name_that_a_killed_run_took_is_no_record(run: Run, record: Record) -> None:
    path = run.store.records_dir / f"{record.id}.json"
    path.write_bytes(b"")
    assert run.store.record(record.cell) is None
    assert len(run.store.problems()) == 1


def test_without_locks_every_cell_is_free(run: Run, cells: list[Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with run.store.claimed(cells[0]) as mine:
        assert mine


@pytest.mark.parametrize("spoil", ["missing", "file", "empty"])
def test_a_folder_without_records_is_refused(tmp_path: Path, spoil: str) -> None:
    if spoil == "file":
        (tmp_path / "results").write_text("")
    elif spoil == "empty":
        (tmp_path / "results" / "records").mkdir(parents=True)
    with pytest.raises(Missing, match="name one with --results|name another with --results"):
        Store(tmp_path / "results").require()


def test_records_of_some_cells_are_read_with_what_is_wrong(run: Run, record: Record, cells: list[Cell]) -> None:
    (run.store.records_dir / f"{cells[1].id}.json").write_text('{"schema_version": 99}')
    found, unreadable = run.store.of(cells)
    assert found == {record.id: record.model_copy(update={"audit": None})}
    assert "update vitptq" in unreadable[cells[1].id]
