"""Entries of annotation files that COCO's own tools take without a word, crash on, or never finish."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.tasks.detection import coco_tree
from tests.tasks.detection.coco_tree import SmallCoco
from vitptq.bench.errors import BadInput
from vitptq.tasks.detection.annotation_checks import check_segmentation

Content = dict[str, Any]


def crowd(content: Content) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in content["annotations"] if one["iscrowd"])
    return found


def polygon(content: Content) -> list[float]:
    found: list[float] = content["annotations"][0]["segmentation"][0]
    return found


def every(entries: list[Any], change: Callable[[Any], Any]) -> None:
    for entry in entries:
        change(entry)


FIRST = "annotation 1 of .*instances_val2017.json"
CROWD = "annotation 6 of .*instances_val2017.json"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: every(c["annotations"], lambda a: a.update(id=1)), "annotation 1 is in .*val2017.json twice"),
        (lambda c: every(c["annotations"], lambda a: a.pop("id")), 'annotation without id of .* has no "id"'),
        (lambda c: every(c["annotations"], lambda a: a.update(id=str(a["id"]))), FIRST + " has \"id\" '1'"),
        (lambda c: every(c["images"], lambda i: i.update(id=str(i["id"]))), "image 101 of .* has \"id\" '101'"),
        (lambda c: c["images"][0].update(id=101.0), "image 101.0 of .* has \"id\" '101.0'; expected a whole number"),
        (lambda c: c["images"][0].update(id=True), "image True of .* expected a whole number"),
        (lambda c: c["images"][0].update(height="32"), 'image 101 of .*val2017.json has "height"'),
        (lambda c: c["images"][0].update(width=0), 'image 101 of .*val2017.json has "width"'),
        (lambda c: c["images"][0].update(width=10**400), 'image 101 of .*val2017.json has "width"'),
        (lambda c: c["images"][0].update(file_name=7), 'image 101 of .*val2017.json has "file_name"'),
        (lambda c: c["images"][0].update(file_name=c["images"][1]["file_name"]), 'image 102 of .*"file_name" .* too'),
        (lambda c: c["categories"][1].update(id=3), "category 3 is in .*val2017.json twice"),
        (lambda c: c["annotations"][0].update(image_id="101"), FIRST + ' has "image_id"'),
        (lambda c: c["annotations"][0].update(bbox=["10", "10", "4", "4"]), FIRST + ' has "bbox"'),
        (lambda c: c["annotations"][0].update(bbox=[10, 10, -5, 4]), FIRST + ' has "bbox"'),
        (lambda c: c["annotations"][0].update(bbox=[10, 10, 5, math.nan]), FIRST + ' has "bbox"'),
        (lambda c: c["annotations"][0].update(bbox=[10, 10, 10**9, 4]), FIRST + ' has "bbox"'),
        (lambda c: c["annotations"][0].update(bbox=[0.5, 10**400, 1.5, 4]), FIRST + ' has "bbox"'),
        (lambda c: c["annotations"][0].update(bbox=None), FIRST + ' has "bbox"'),
        (lambda c: c["annotations"][0].update(area="12"), FIRST + ' has "area"'),
        (lambda c: c["annotations"][0].update(area=-1), FIRST + ' has "area"'),
        (lambda c: c["annotations"][0].update(area=10**400), FIRST + ' has "area"'),
        (lambda c: c["annotations"][0].update(iscrowd="0"), FIRST + " has \"iscrowd\" '0'; expected 0 or 1"),
        (lambda c: c["annotations"][0].update(iscrowd=2), FIRST + ' has "iscrowd"'),
        (lambda c: c["annotations"][0].update(iscrowd=True), FIRST + ' has "iscrowd"'),
        (lambda c: polygon(c).__delitem__(slice(4, None)), FIRST + ": a polygon has 4 numbers"),
        (lambda c: polygon(c).pop(), FIRST + ": a polygon has 7 numbers"),
        (lambda c: polygon(c).__setitem__(0, 1e9), FIRST + ": a polygon has the coordinate 1000000000.0, far outside"),
        (lambda c: polygon(c).__setitem__(1, math.inf), FIRST + ": a polygon is not a list of numbers"),
        (lambda c: polygon(c).__setitem__(2, "7"), FIRST + ": a polygon is not a list of numbers"),
        (lambda c: c["annotations"][0].update(segmentation="text"), FIRST + ": a segmentation is neither polygons nor"),
        (lambda c: c["annotations"][0].update(segmentation=[]), FIRST + ": a segmentation is neither polygons nor"),
        (lambda c: crowd(c)["segmentation"].update(counts="!!!no runs"), CROWD + ": .*not in COCO's form"),
        (lambda c: crowd(c)["segmentation"].update(counts=""), CROWD + ": .*not in COCO's form of run lengths"),
        (lambda c: crowd(c)["segmentation"].update(counts="52203"), CROWD + ": .*add up to 16 pixels"),
        (lambda c: crowd(c)["segmentation"].update(counts=[5, 5]), CROWD + ": .*add up to 10 pixels"),
        (lambda c: crowd(c)["segmentation"].update(counts=[5, 50000]), CROWD + ": .*neither a text nor a list"),
        (lambda c: crowd(c)["segmentation"].update(counts=[5, -5, 4096]), CROWD + ": .*neither a text nor a list"),
        (lambda c: crowd(c)["segmentation"].update(size=[8, 8]), CROWD + r": a mask is of size \[8, 8\]"),
        (lambda c: crowd(c)["segmentation"].pop("counts"), CROWD + ": .*neither a text nor a list of pixel counts"),
    ],
)  # fmt: skip
def test_the_file_and_the_entry_are_named(tree: SmallCoco, damage: Callable[[Content], Any], message: str) -> None:
    content = coco_tree.load(tree.folder)
    damage(content)
    coco_tree.save(tree.folder, content)
    with pytest.raises(BadInput, match=message):
        tree.annotations()


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 1, 3, 1, 3, 3]],
        [[-0.5, 0, 4.5, 0, 2, 4], [0, 0, 4, 0, 4, 4, 0, 4]],
        {"size": [4, 4], "counts": [5, 2, 2, 2, 5]},
        {"size": [4, 4], "counts": "52203"},
    ],
)
def test_what_coco_has_is_accepted(segmentation: Any) -> None:
    check_segmentation(segmentation, 4, 4)
