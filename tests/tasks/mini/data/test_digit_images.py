import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitptq.tasks.mini.data import digit_images
from vitptq.tasks.mini.data.digit_images import DATA, read_split
from vitptq.tasks.mini.data.generated import Counts, DataError, Progress, read_manifest

FEW = Counts(train=20, val=30)


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return DATA.generate(tmp_path_factory.mktemp("mini") / "imagenet", counts=FEW)


def test_two_runs_write_the_same_bytes(few: Path, tmp_path: Path) -> None:
    assert tree(DATA.generate(tmp_path / "again", counts=FEW)) == tree(few)


def test_another_seed_writes_other_images(few: Path, tmp_path: Path) -> None:
    other = DATA.generate(tmp_path / "other", counts=FEW, seed=1)
    assert read_manifest(other)["fingerprint"] != read_manifest(few)["fingerprint"]


def test_layout_is_that_of_imagenet(few: Path) -> None:
    for split, count in (("train", FEW.train), ("val", FEW.val)):
        directories = sorted(path.name for path in (few / split).iterdir())
        assert directories == list(digit_images.CLASS_DIRECTORIES)
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
    assert digit_images.fingerprint(splits) == read_manifest(few)["fingerprint"]


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


def test_published_calibration_lists_are_what_the_function_gives(tmp_path: Path) -> None:
    digit_images.write_calibration_lists(tmp_path / "lists.json")
    assert (tmp_path / "lists.json").read_bytes() == DATA.lists.read_bytes()
    published = json.loads(DATA.lists.read_text(encoding="utf-8"))["lists"]
    assert list(published) == ["0", "1", "2", "3", "4"]
    assert len({tuple(names) for names in published.values()}) == 5


def test_calibration_lists_name_each_training_image_once_and_no_other() -> None:
    expected = {name for name, _ in digit_images._names("train", 1024)}
    for names in DATA.calibration_lists().values():
        assert len(names) == 1024
        assert set(names) == expected


def test_listed_calibration_images_exist(few: Path) -> None:
    for names in DATA.calibration_lists(FEW).values():
        assert all((few / name).is_file() for name in names)
