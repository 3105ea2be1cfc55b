"""The full edition of ADE20K on a small tree in the real format, with a small UPerNet and a local checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.tasks.segmentation.ade20k_tree import (
    CPU,
    NAME,
    Disk,
    save_checkpoint,
    task,
)
from vitptq.bench.errors import BadInput, Missing, UnknownName
from vitptq.tasks.openmmlab import libraries
from vitptq.tasks.segmentation.ade20k import Ade20k

pytestmark = pytest.mark.skipif(bool(libraries.problems()), reason="OpenMMLab's libraries are not installed")


def test_other_number_of_training_images_is_refused(disk: Disk) -> None:
    (task(disk).folder / "images" / "training" / "ADE_train_00000002.jpg").unlink()
    with pytest.raises(BadInput, match="training has 5 images, the calibration lists count in 6"):
        task(disk).calibration(NAME, 2, 0, CPU)


def test_a_doubled_training_image_beside_a_missing_one_is_refused(disk: Disk) -> None:
    folder = task(disk).folder / "images" / "training"
    (folder / "ADE_train_00000005.jpg").rename(folder / "ADE_train_00000003 (1).jpg")
    with pytest.raises(BadInput, match=r"ADE_train_00000003 \(1\)\.jpg stands where ADE_train_00000003\.jpg should"):
        task(disk).calibration(NAME, 2, 0, CPU)


def test_a_foreign_evaluation_image_in_place_of_one_is_refused(disk: Disk) -> None:
    for kind, suffix in (("images", ".jpg"), ("annotations", ".png")):
        file = task(disk).folder / kind / "validation" / f"ADE_val_00000004{suffix}"
        file.rename(file.with_stem("foreign"))
    with pytest.raises(BadInput, match=r"ADE_val_00000005\.jpg stands where ADE_val_00000004\.jpg should"):
        task(disk).preload(NAME)


def test_empty_calibration_list_is_refused(published: Disk) -> None:
    with pytest.raises(BadInput, match="the calibration list of seed 0 is empty"):
        task(published, lists=lambda _seed: []).calibration_names(2, 0)


@pytest.mark.parametrize("size", [0, 5])
def test_calibration_size_beyond_the_list_is_refused(published: Disk, size: int) -> None:
    with pytest.raises(BadInput, match=f"{size} calibration images: the list of seed 0 has 1 to 4"):
        task(published).calibration_names(size, 0)


def test_checkpoint_with_other_classes_is_refused_before_labels_are_read(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ade20k, "evaluation_pairs", lambda _self: pytest.fail("read"))
    with pytest.raises(BadInput, match=f"{NAME} has 5 classes, the label maps have 6"):
        task(disk, classes=6).preload(NAME)
    entry = save_checkpoint(disk[0] / "checkpoints", classes=4)
    with pytest.raises(BadInput, match=r"conv_seg\.(weight|bias) has another shape"):
        task((disk[0], entry)).preload(NAME)


def test_checkpoint_with_another_hash_is_refused(disk: Disk) -> None:
    file = disk[0] / "checkpoints" / disk[1].file
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(BadInput, match=f"its model is pinned to {disk[1].digest}"):
        task(disk).load(NAME, CPU)
    assert f"its model is pinned to {disk[1].digest}" in task(disk).problems(NAME)[0]


def test_checkpoint_is_loaded_without_the_auxiliary_head(published: Disk, model: nn.Module) -> None:
    saved = torch.load(published[0] / "checkpoints" / published[1].file, weights_only=True)["state_dict"]
    loaded = model.state_dict()
    assert loaded and all(torch.equal(value, saved[name]) for name, value in loaded.items())
    assert {name.partition(".")[0] for name in set(saved) - set(loaded)} == {"auxiliary_head"}
    assert not model.training
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())


def test_what_is_missing_is_said_in_one_sentence_each(tmp_path: Path, published: Disk) -> None:
    ade20k = task((tmp_path, published[1]))
    data, checkpoint = ade20k.problems(NAME)
    assert "ADEChallengeData2016.zip" in data and str(tmp_path / "ADEChallengeData2016") in data
    file = tmp_path / "checkpoints" / published[1].file
    assert checkpoint.endswith(
        f"download https://mmassets.onedl.ai/mmsegmentation/v0.5/{published[1].weights} to {file}"
    )
    with pytest.raises(Missing, match="is not here: download"):
        ade20k.preload(NAME)
    assert task(published).problems(NAME) == []


def test_unknown_model_names_the_nearest(published: Disk) -> None:
    with pytest.raises(UnknownName, match=f'did you mean "{NAME}"'):
        task(published).load("upernet_tini", CPU)


def test_planning_touches_no_data(tmp_path: Path) -> None:
    ade20k = Ade20k(root=tmp_path / "nothing")
    assert ade20k.data_version == "ade20k-challenge2016-val-2000"
    assert len(ade20k.calibration_names(32, 4)) == 32
    assert all(len(ade20k.problems(name)) == 2 for name in ade20k.models())
