"""What the embedded detection and segmentation share."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.tasks.mini.detection import MiniCoco
from vitptq.tasks.mini.scene_edition import SceneTask
from vitptq.tasks.mini.segmentation import MiniAde20k


def test_both_tasks_read_the_same_generated_scenes(tmp_path: Path) -> None:
    coco, ade20k = MiniCoco(root=tmp_path), MiniAde20k(root=tmp_path)
    assert coco.generated == ade20k.generated and coco.data_version == ade20k.data_version
    assert coco.calibration_names(32, 0) == ade20k.calibration_names(32, 0)
    files = [task.calibration_files(["7"])[0].relative_to(task.generated) for task in (coco, ade20k)]
    assert [str(file) for file in files] == [
        "coco/train2017/000000000007.jpg",
        "ADEChallengeData2016/images/training/ADE_train_00000007.jpg",
    ]


@pytest.mark.parametrize("task", [MiniCoco(), MiniAde20k()], ids=lambda task: task.name)
def test_a_task_offers_its_own_models(task: SceneTask) -> None:
    assert task.entries and {entry.task for entry in task.entries.values()} == {task.name}
    sides = {model: task.entries[model].side for model in task.models()}
    assert sides and all(task.input(model).shape == (3, side, side) for model, side in sides.items())
