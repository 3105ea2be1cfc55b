"""Configurations of OpenMMLab's packages, and of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.openmmlab import libraries
from vitptq.tasks.openmmlab.configs import for_one_device, named_config, packaged_config, part_of

pytestmark = pytest.mark.skipif(bool(libraries.problems()), reason="OpenMMLab's libraries are not installed")
NAME = "swin/mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco"


def test_packaged_configuration_is_found_by_its_path(tmp_path: Path) -> None:
    assert packaged_config(NAME, "mmdet")["model"]["backbone"]["type"] == "SwinTransformer"
    assert named_config(NAME, tmp_path, "mmdet") == packaged_config(NAME, "mmdet")
    with pytest.raises(Missing, match="this mmdet brings no configuration swin/none"):
        packaged_config("swin/none", "mmdet")


def test_own_configuration_is_a_file_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text("model = dict(type='Ours', norm=dict(type='SyncBN'))\n")
    assert named_config("ours.py", tmp_path, "mmseg") == {"model": {"type": "Ours", "norm": {"type": "SyncBN"}}}
    with pytest.raises(Missing, match=r"theirs\.py is not there: copy the model's configuration to it"):
        named_config("theirs.py", tmp_path, "mmseg")


def test_configuration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("model = dict(\n")
    with pytest.raises(BadInput, match=r"broken\.py cannot be read as a configuration of mmdet"):
        named_config("broken.py", tmp_path, "mmdet")


def test_part_that_is_not_there_is_named() -> None:
    config = {"test_dataloader": {"dataset": {"type": "A"}}}
    assert part_of(config, "test_dataloader", "dataset") == {"type": "A"}
    with pytest.raises(BadInput, match=r"the configuration has no test_dataloader\.sampler"):
        part_of(config, "test_dataloader", "sampler")


def test_normalisation_over_a_group_becomes_that_of_one_device() -> None:
    config = {"norm": [{"type": "SyncBN", "momentum": 0.1}], "name": "SyncBN"}
    assert for_one_device(config) == {"norm": [{"type": "BN", "momentum": 0.1}], "name": "SyncBN"}
