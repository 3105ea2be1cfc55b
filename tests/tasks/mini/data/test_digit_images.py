"""Single digits in ImageNet's layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitptq.tasks.mini.data import digit_images
from vitptq.tasks.mini.data.digit_images import DATA, read_split
from vitptq.tasks.mini.data.generated import Counts, read_manifest

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
