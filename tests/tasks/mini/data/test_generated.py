"""Generated folders: complete, checked, and safe beside others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vitptq.tasks.mini.data.digit_images import DATA
from vitptq.tasks.mini.data.generated import Counts, DataError, Progress, read_manifest

FEW = Counts(train=20, val=30)


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return DATA.generate(tmp_path_factory.mktemp("mini") / "imagenet", counts=FEW)


def test_a_complete_folder_is_reused(few: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in few.rglob("*")}
    DATA.generate(few, counts=FEW)
    assert {path: path.stat().st_mtime_ns for path in few.rglob("*")} == before


def test_a_foreign_fingerprint_is_refused_by_both_names(few: Path, tmp_path: Path) -> None:
    root = tmp_path / "changed"
    root.mkdir()
    manifest = {**read_manifest(few), "counts": {"train": 1024, "val": 3000}, "fingerprint": "abc"}
    (root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DataError, match=f"fingerprint is abc, expected {DATA.fingerprint}"):
        DATA.generate(root)


def test_other_counts_are_not_taken_for_the_standard_data(few: Path) -> None:
    with pytest.raises(DataError, match=r"counts is .*'train': 20"):
        DATA.check(few)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mini").mkdir()
    with pytest.raises(DataError, match=r"no manifest\.json"):
        DATA.check(tmp_path / "mini")


def test_a_wrong_result_never_appears(tmp_path: Path) -> None:
    other = replace(DATA, standard=FEW, fingerprint="unreachable")
    with pytest.raises(DataError, match="expected unreachable"):
        other.generate(tmp_path / "mini")
    assert list(tmp_path.iterdir()) == []


def test_the_slower_of_two_generators_keeps_the_winner(few: Path, tmp_path: Path) -> None:
    target = tmp_path / "mini"

    def overtaken(root: Path, seed: int, counts: Counts, progress: Progress | None) -> str:
        DATA.generate(target, counts=FEW)
        return DATA.write(root, seed, counts, progress)

    replace(DATA, write=overtaken).generate(target, counts=FEW)
    assert tree(target) == tree(few)
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]


def test_listed_calibration_images_exist(few: Path) -> None:
    for names in DATA.calibration_lists(FEW).values():
        assert all((few / name).is_file() for name in names)
