"""Annotation files and image folders that do not fit together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from tests.tasks.detection import coco_tree
from tests.tasks.detection.coco_tree import SIDE, SmallCoco
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.image_files import EXIF_ORIENTATION


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[SmallCoco], None]:
    def damage(tree: SmallCoco) -> None:
        content = coco_tree.load(tree.folder)
        change(content)
        coco_tree.save(tree.folder, content)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.annotation_file.unlink(), r"instances_val2017.json is not there\. COCO 2017 is needed"),
        (lambda t: t.annotation_file.write_text('{"images": [')  , "is not readable JSON"),
        (lambda t: t.annotation_file.write_text("[]"), "has no lists images, annotations and categories"),
        (edited(lambda c: c["categories"].pop()), r"has 2 categories \(circle, square\), the checkpoint 3 classes"),
        (edited(lambda c: c["categories"][1].update(name="cube")), 'number 1 is "cube" there and "square" here'),
        (edited(lambda c: c["annotations"][0].pop("bbox")), 'annotation 1 of .* has no "bbox"'),
        (edited(lambda c: c["annotations"][0].update(image_id=5)), "annotation 1 of .* is for image 5"),
        (edited(lambda c: c["annotations"][0].update(category_id=5)), "annotation 1 of .* is for category 5"),
        (edited(lambda c: c["annotations"][0].update(bbox=[1, 2])), r'annotation 1 of .* has "bbox" .*; .* four'),
        (edited(lambda c: c["annotations"][0].update(segmentation=[])), "neither polygons nor run lengths"),
        (edited(lambda c: c["images"].append(c["images"][0])), r"image 101 is in .*instances_val2017.json twice"),
        (edited(lambda c: c["images"].pop()), "is for image 104, which the file does not list"),
        (lambda t: (t.val / "000000000102.jpg").unlink(), r"1 of the 4 images that .* names are not in .*0102.jpg"),
        (lambda t: shutil.copy(t.val / "000000000102.jpg", t.val / "7.jpg"), r"1 images that .* does not name \(7.jpg"),
        (lambda t: (t.val / "000000000102.jpg").write_bytes(b"?"), r"000000000102.jpg is not a readable image"),
    ],
)  # fmt: skip
def test_bad_data_is_one_clear_error(tree: SmallCoco, damage: Callable[[SmallCoco], Any], message: str) -> None:
    damage(tree)
    with pytest.raises((BadInput, Missing), match=message):
        tree.preload("small")


@pytest.mark.parametrize("factor", [0.5, 2])
def test_an_image_of_another_size_than_its_entry_is_refused_with_both(tree: SmallCoco, factor: float) -> None:
    file = tree.val / "000000000102.jpg"
    with Image.open(file) as image:
        image.resize((round(factor * SIDE), round(factor * SIDE))).save(file)
    side = round(factor * SIDE)
    with pytest.raises(BadInput, match=rf"0102\.jpg has {side} x {side} pixels, .*val2017\.json says {SIDE} x {SIDE}"):
        tree.preload("small")


@pytest.mark.parametrize("orientation", [2, 3, 6])
def test_an_image_that_viewers_turn_is_refused(tree: SmallCoco, orientation: int) -> None:
    file = tree.val / "000000000101.jpg"
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    with Image.open(file) as image:
        image.convert("RGB").save(file, exif=exif)
    with pytest.raises(BadInput, match=rf"0101\.jpg is turned by its EXIF orientation {orientation}, while .*64 x 32"):
        tree.preload("small")


def test_an_upright_image_with_exif_data_is_accepted(tree: SmallCoco) -> None:
    file = tree.val / "000000000101.jpg"
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 1
    with Image.open(file) as image:
        image.convert("RGB").save(file, exif=exif)
    assert tree.check_data() == 4


def test_an_image_that_links_nowhere_is_named(tree: SmallCoco) -> None:
    file = tree.val / "000000000102.jpg"
    file.unlink()
    file.symlink_to("/nonexistent/image.jpg")
    with pytest.raises(Missing, match=r"0102\.jpg is a link to /nonexistent/image\.jpg, which is not there"):
        tree.preload("small")


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"<!doctype html>", "a web page"), (b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer")],
)
def test_what_stands_in_place_of_the_annotations_is_named(tree: SmallCoco, content: bytes, found: str) -> None:
    tree.annotation_file.write_bytes(content)
    with pytest.raises(BadInput, match=rf"instances_val2017\.json is {found}"):
        tree.preload("small")
    assert found in tree.problems("small")[0]
