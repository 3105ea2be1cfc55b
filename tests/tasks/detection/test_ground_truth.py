"""Annotation files and image folders that do not fit together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.tasks.detection import coco_tree
from tests.tasks.detection.coco_tree import SmallCoco
from vitptq.bench.errors import BadInput, Missing


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
        (edited(lambda c: c["annotations"][0].update(bbox=[1, 2])), "has an entry of another type"),
        (edited(lambda c: c["annotations"][0].update(segmentation=[])), "neither polygons nor run lengths"),
        (edited(lambda c: c["images"].append(c["images"][0])), "5 images with 4 different ids"),
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
