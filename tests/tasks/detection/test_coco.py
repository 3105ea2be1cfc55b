"""The full edition of COCO on a small tree in the real format."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.detection.coco_tree import CPU, SmallCoco
from vitptq.bench.errors import BadInput, Missing, UnknownName
from vitptq.tasks.detection.coco import Coco


def test_incomplete_training_split_is_refused(tree: SmallCoco) -> None:
    next(tree.train.iterdir()).unlink()
    with pytest.raises(Missing, match="has 2 images, the calibration lists count in 3"):
        tree.calibration("small", 1, 0, CPU)


def test_another_number_of_objects_is_refused(root: Path) -> None:
    with pytest.raises(BadInput, match=r"instances_val2017\.json lists 12 objects, expected 36781"):
        SmallCoco(root, objects=36_781).annotations()


def test_a_training_image_of_another_name_is_refused(tree: SmallCoco) -> None:
    (tree.train / "000000000002.jpg").rename(tree.train / "000000000003 (1).jpg")
    with pytest.raises(BadInput, match=r"000000000003 \(1\)\.jpg is not named as COCO's images are"):
        tree.calibration("small", 1, 0, CPU)


def test_problems_name_data_and_checkpoint(tmp_path: Path) -> None:
    data, checkpoint = Coco(root=tmp_path).problems("mask_rcnn_swin_t")
    assert data.startswith("COCO 2017 is needed") and str(tmp_path) in data
    assert "90a4008c.pth" in checkpoint and "download https://download.openmmlab.com" in checkpoint
    with pytest.raises(UnknownName, match='did you mean "mask_rcnn_swin_t"'):
        Coco(root=tmp_path).problems("mask_rcnn_swin")
    with pytest.raises(Missing, match="download https://github.com/SwinTransformer"):
        Coco(root=tmp_path).load("cascade_mask_rcnn_swin_t", CPU)
