import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitptq.tasks.mini import data
from vitptq.tasks.mini.data import Counts, DataError, calibration_lists, check, generate, read_manifest, read_split

FEW = Counts(train=20, val=30)


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("mini") / "imagenet", counts=FEW)


def test_two_runs_write_the_same_bytes(few: Path, tmp_path: Path) -> None:
    assert tree(generate(tmp_path / "again", counts=FEW)) == tree(few)


def test_another_seed_writes_other_images(few: Path, tmp_path: Path) -> None:
    other = generate(tmp_path / "other", counts=FEW, seed=1)
    assert read_manifest(other)["fingerprint"] != read_manifest(few)["fingerprint"]


def test_layout_is_that_of_imagenet(few: Path) -> None:
    for split, count in (("train", FEW.train), ("val", FEW.val)):
        directories = sorted(path.name for path in (few / split).iterdir())
        assert directories == list(data.CLASS_DIRECTORIES)
        files = sorted((few / split).glob("*/*.JPEG"))
        assert len(files) == count
        with Image.open(files[0]) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (32, 32), "RGB")


def test_classes_are_balanced_and_labels_follow_the_directory(few: Path) -> None:
    split = read_split(few, "val")
    assert np.bincount(split.labels).tolist() == [3] * 10
    assert [int(name.split("/")[1][1:]) for name in split.names] == split.labels.tolist()


def test_fingerprint_is_that_of_the_files(few: Path) -> None:
    splits = [read_split(few, "train"), read_split(few, "val")]
    assert data.fingerprint(splits) == read_manifest(few)["fingerprint"]


def test_a_complete_folder_is_reused(few: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in few.rglob("*")}
    generate(few, counts=FEW)
    assert {path: path.stat().st_mtime_ns for path in few.rglob("*")} == before


def test_a_foreign_fingerprint_is_refused_by_both_names(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "changed"
    root.mkdir()
    manifest = {**read_manifest(few), "counts": {"train": 1024, "val": 3000}, "fingerprint": "abc"}
    (root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DataError, match=f"fingerprint is abc, expected {data.FINGERPRINT}"):
        generate(root)


def test_other_counts_are_not_taken_for_the_standard_data(few: Path) -> None:
    with pytest.raises(DataError, match=r"counts is .*'train': 20"):
        check(few)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mini").mkdir()
    with pytest.raises(DataError, match=r"no manifest\.json"):
        check(tmp_path / "mini")


def test_a_wrong_result_never_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_expected", lambda seed, counts: {"fingerprint": "unreachable"})
    with pytest.raises(DataError):
        generate(tmp_path / "mini", counts=FEW)
    assert list(tmp_path.iterdir()) == []


def test_the_slower_of_two_generators_keeps_the_winner(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "mini"
    written = data._write

    def overtaken(root: Path, *args: object) -> dict[str, object]:
        manifest = written(root, *args)  # type: ignore[arg-type]
        monkeypatch.setattr(data, "_write", written)
        generate(target, counts=FEW)
        return manifest

    monkeypatch.setattr(data, "_write", overtaken)
    generate(target, counts=FEW)
    assert tree(target) == tree(few)
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]


def test_published_calibration_lists_are_what_the_function_gives() -> None:
    published = json.loads(data.CALIBRATION_LISTS.read_text(encoding="utf-8"))["lists"]
    assert published == calibration_lists()
    assert list(published) == ["0", "1", "2", "3", "4"]
    assert len({tuple(names) for names in published.values()}) == 5


def test_calibration_lists_name_each_training_image_once_and_no_other() -> None:
    expected = {name for name, _ in data._names("train", 1024)}
    for names in calibration_lists().values():
        assert len(names) == 1024
        assert set(names) == expected


def test_listed_calibration_images_exist(few: Path) -> None:
    for names in calibration_lists(counts=FEW).values():
        assert all((few / name).is_file() for name in names)
