"""Image noise is computed once for each evidence and code version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench.record_factory import make_cell, make_record
from vitptq.bench import registry
from vitptq.bench.board import stored_noise
from vitptq.bench.board.image_noise import ImageNoise
from vitptq.bench.board.stored_noise import StoredNoise
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store

RIGHT = np.arange(3000) % 3 > 0


@pytest.fixture
def record(tmp_path: Path) -> Record:
    cell = make_cell(task="imagenet")
    arrays = {"labels": np.zeros(3000, np.int16), "predictions": (~RIGHT).astype(np.int16)}
    return make_record(cell, images=3000, evidence=Store(tmp_path).add_evidence(cell.id, arrays))


def noise(record: Record, folder: Path) -> ImageNoise:
    return StoredNoise(Store(folder)).of(record)["top1"]


def cache(folder: Path) -> list[Path]:
    return sorted((folder / ".cache" / "image_noise").glob("*"))


def test_a_second_board_reads_what_the_first_computed_and_asks_no_task(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert np.array_equal(noise(record, tmp_path).values, RIGHT)
    monkeypatch.setattr(registry, "task", lambda *names: pytest.fail("the task was asked again"))
    assert np.array_equal(noise(record, tmp_path).values, RIGHT)


def test_resampled_scores_come_back_to_the_last_bit() -> None:
    values = {"box_ap": ImageNoise(np.random.default_rng(0).random(1000)), "top1": ImageNoise(RIGHT)}
    path = Path("unused.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda self: stored_noise._packed(values, "code"))
        found = stored_noise._read(path, "code")
        assert stored_noise._read(path, "other code") is None
    assert found is not None and set(found) == {"box_ap", "top1"}
    assert all(np.array_equal(found[name].values, values[name].values) for name in values)


@pytest.mark.parametrize("content", [b"", b"not an archive", None])
def test_a_broken_or_missing_entry_is_computed_again(record: Record, tmp_path: Path, content: bytes | None) -> None:
    noise(record, tmp_path)
    (entry,) = cache(tmp_path)
    entry.unlink() if content is None else entry.write_bytes(content)
    assert np.array_equal(noise(record, tmp_path).values, RIGHT)
    assert entry.stat().st_size > 100


def test_an_entry_of_other_code_is_replaced(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(record, tmp_path)
    (entry,) = cache(tmp_path)
    before = entry.read_bytes()
    monkeypatch.setattr(stored_noise, "code_version", lambda added: "newer")
    noise(record, tmp_path)
    assert cache(tmp_path) == [entry]
    assert entry.read_bytes() != before


def test_missing_evidence_and_unknown_tasks_have_no_noise(record: Record, tmp_path: Path) -> None:
    (tmp_path / "evidence" / record.evidence.file).unlink()  # type: ignore[union-attr]
    assert StoredNoise(Store(tmp_path)).of(record) == {}
    assert StoredNoise(Store(tmp_path)).of(make_record(make_cell(task="nobodys"))) == {}
    assert cache(tmp_path) == []


def test_a_folder_that_cannot_be_written_to_costs_time_only(record: Record, tmp_path: Path) -> None:
    (tmp_path / ".cache").write_text("a file where the folder should be")
    assert np.array_equal(noise(record, tmp_path).values, RIGHT)


def test_the_code_version_covers_the_files_named_by_the_user(tmp_path: Path) -> None:
    added = tmp_path / "task.py"
    added.write_text("a = 1")
    assert stored_noise.code_version((added,)) != stored_noise.code_version(())
