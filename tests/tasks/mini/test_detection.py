"""The embedded edition of COCO on a few scenes, with weights that nobody trained."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vitptq.bench.errors import BadInput, Missing, UnknownName
from vitptq.tasks.mini.data import scenes
from vitptq.tasks.mini.data.generated import Counts
from vitptq.tasks.mini.detection import MiniCoco
from vitptq.tasks.mini.models import scene_models, shipped
from vitptq.tasks.openmmlab import models

CPU = torch.device("cpu")
COUNTS = Counts(train=3, val=4)
NAME = "mini_mask_rcnn_swin"


def ignore(_done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> MiniCoco:
    task = MiniCoco(root=tmp_path_factory.mktemp("mini"), counts=COUNTS, batch_size=3)
    task.prepare()
    return task


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights folder, with one detector of random weights in it."""
    torch.manual_seed(0)
    model = models.build(scene_models.SCENE_MODELS[NAME].config(), "mmdet")
    file = tmp_path / f"{NAME}.safetensors"
    save_file(scene_models.halved(model.state_dict()), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    facts = {"sha256": digest, "scores": {"box_ap": 12.5, "mask_ap": 3.25}}
    file.with_suffix(".json").write_text(json.dumps(facts))
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    return tmp_path


def test_generated_scenes_are_read_by_cocos_code(task: MiniCoco, weights: Path) -> None:
    assert list(task.models()) == [NAME]
    assert task.problems(NAME) == []
    task.preload(NAME)
    network = task.load(NAME, CPU)
    with torch.no_grad():
        network.roi_head.bbox_head.fc_cls.weight.mul_(300)  # so that some scores pass the threshold
    found = task.evaluate(network, NAME, CPU, ignore)
    assert task.count(found) == 4
    assert found["image_ids"].tolist() == [10001, 10002, 10003, 10004]
    assert found["image_sizes"].tolist() == [[96, 96]] * 4
    assert len(found["truth_labels"]) >= 8 and len(found["labels"]) > 0
    assert 0.0 <= task.score(found)["box_ap"] < 30.0
    scenes_shown = task.scenes(found)
    assert len(scenes_shown) == 4 and scenes_shown[0].truth.classes.any()


def test_details_and_card_come_from_training(task: MiniCoco, weights: Path) -> None:
    card = task.card(NAME)
    assert card.reference == {"box_ap": 12.5, "mask_ap": 3.25}
    assert card.checkpoint == json.loads((weights / f"{NAME}.json").read_text())["sha256"]
    assert task.details(NAME)["checkpoint"] == {"file": f"{NAME}.safetensors", "sha256": card.checkpoint}
    assert task.input(NAME).shape == (3, 96, 96)


def test_calibration_reads_training_scenes_only(task: MiniCoco, weights: Path) -> None:
    calibration = task.calibration(NAME, 3, 0, CPU)
    assert [tuple(batch.shape) for batch in calibration.batches()] == [(3, 3, 96, 96)]
    numbers = task.calibration_names(3, 0)
    assert [file.parent.name for file in task.calibration_files(numbers)] == ["train2017"] * 3
    assert len(calibration.forward(task.load(NAME, CPU), torch.zeros(1, 3, 96, 96))) == 5 + 5 + 5 + 1 + 1 + 1


def test_published_lists_cover_the_standard_training_scenes() -> None:
    for seed, numbers in scenes.DATA.calibration_lists().items():
        assert [int(number) for number in MiniCoco().calibration_list(int(seed))] == numbers
    with pytest.raises(BadInput, match="no calibration list is published for seed 9"):
        MiniCoco().calibration_list(9)
    with pytest.raises(BadInput, match="no calibration list is published for seed 9"):
        MiniCoco(counts=COUNTS).calibration_list(9)


def test_untrained_unknown_and_damaged_models_are_told_apart(task: MiniCoco, weights: Path) -> None:
    with pytest.raises(UnknownName, match="mini_mask_rcnn_swin"):
        task.card("mini_mask_rcnn")
    with pytest.raises(Missing, match="mini_cascade_mask_rcnn_swin.safetensors is missing"):
        task.card("mini_cascade_mask_rcnn_swin")
    file = weights / f"{NAME}.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(BadInput, match="has sha256"):
        task.load(NAME, CPU)
    file.unlink()
    assert any("is missing: restore it" in problem for problem in task.problems(NAME))


def test_another_data_set_in_the_folder_is_refused(task: MiniCoco, tmp_path: Path) -> None:
    other = MiniCoco(root=tmp_path, counts=COUNTS)
    scenes.DATA.generate(other.generated, counts=Counts(train=3, val=2))
    with pytest.raises(BadInput):
        other.prepare()


def test_dropping_images_reaches_the_material(task: MiniCoco) -> None:
    folders = task.image_folders()
    assert task.generated in folders and len(folders) > 1
    task.drop_images()
    assert np.array_equal(task.annotations().sizes, [[96, 96]] * 4)
