"""Scenes in COCO's and ADE20K's layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitptq.tasks.mini.data import scenes
from vitptq.tasks.mini.data.compose_scene import SIDE
from vitptq.tasks.mini.data.generated import Counts, DataError, read_manifest
from vitptq.tasks.mini.data.material import digits
from vitptq.tasks.mini.data.scenes import ADE, COCO, DATA

# numpy 2 warns about how pycocotools hands over the masks that it decodes.
run_lengths = pytest.importorskip("pycocotools.mask")


FEW = Counts(train=4, val=12)


FEW_FINGERPRINT = "9d498ae8e4d1813ed8fb7f247abe77eddfcb3c85410406251aa0804490e45aba"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return DATA.generate(tmp_path_factory.mktemp("mini") / "scenes", counts=FEW)


def annotations(root: Path, split: scenes.Split) -> dict:
    return json.loads((root / COCO / scenes.coco_annotations(split)).read_text())


def test_the_same_scenes_are_made_everywhere(few: Path) -> None:
    assert read_manifest(few)["fingerprint"] == FEW_FINGERPRINT


def test_two_runs_write_the_same_bytes(few: Path, tmp_path: Path) -> None:
    again = DATA.generate(tmp_path / "again", counts=FEW)
    files = sorted(path.relative_to(few) for path in few.rglob("*") if path.is_file())
    assert len(files) == 3 * 16 + 2 + 1
    assert all((again / path).read_bytes() == (few / path).read_bytes() for path in files)


def test_other_counts_are_not_taken_for_the_standard_scenes(few: Path) -> None:
    with pytest.raises(DataError, match=r"counts is .*'train': 4"):
        DATA.generate(few)


@pytest.mark.parametrize(("split", "first", "count"), [("train", 1, 4), ("val", 10_001, 12)])
def test_coco_names_every_file_once(few: Path, split: scenes.Split, first: int, count: int) -> None:
    content = annotations(few, split)
    assert [image["id"] for image in content["images"]] == list(range(first, first + count))
    found = sorted(path.name for path in (few / COCO / f"{split}2017").iterdir())
    assert [image["file_name"] for image in content["images"]] == found
    assert [category["name"] for category in content["categories"]] == list(scenes.THING_CLASSES)


def test_masks_boxes_and_areas_agree(few: Path) -> None:
    for annotation in annotations(few, "val")["annotations"]:
        segmentation = {**annotation["segmentation"], "counts": annotation["segmentation"]["counts"].encode()}
        assert annotation["area"] == run_lengths.area(segmentation)
        assert annotation["bbox"] == run_lengths.toBbox(segmentation).tolist()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_both_layouts_show_the_same_scene(few: Path) -> None:
    content = annotations(few, "val")
    for number, image in enumerate(content["images"], start=1):
        expected = np.ones((SIDE, SIDE), dtype=np.uint8)
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"]:
                expected[run_lengths.decode(annotation["segmentation"]).astype(bool)] = annotation["category_id"] + 1
        with Image.open(few / ADE / scenes.ade_label_map("val", number)) as label_map:
            assert label_map.mode == "L"
            assert np.array_equal(np.asarray(label_map), expected)
        pixels = (few / COCO / scenes.coco_image("val", number)).read_bytes()
        assert (few / ADE / scenes.ade_image("val", number)).read_bytes() == pixels


def test_the_splits_use_their_own_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[str, set[int]] = {}
    pools: dict[str, str] = {}
    composed = scenes.compose_scene

    def watched(pool: str, material: object, generator: object) -> object:
        used.setdefault(pool, set()).update(material.rows.tolist())  # type: ignore[attr-defined]
        pools[split] = pool
        return composed(pool, material, generator)  # type: ignore[arg-type]

    monkeypatch.setattr(scenes, "compose_scene", watched)
    for split in ("train", "val"):
        list(scenes.scenes(split, 10))  # type: ignore[arg-type]
    assert pools == {"train": "calibration", "val": "evaluation"}
    assert not used["calibration"] & used["evaluation"]
    for rows in used.values():
        assert not rows & set(digits("fit").rows.tolist())


def test_published_calibration_lists_are_what_the_function_gives(tmp_path: Path) -> None:
    scenes.write_calibration_lists(tmp_path / "lists.json")
    assert (tmp_path / "lists.json").read_bytes() == DATA.lists.read_bytes()
    published = json.loads(DATA.lists.read_text(encoding="utf-8"))["lists"]
    assert list(published) == ["0", "1", "2", "3", "4"]
    assert all(sorted(numbers) == list(range(1, 257)) for numbers in published.values())
    assert len({tuple(numbers) for numbers in published.values()}) == 5
