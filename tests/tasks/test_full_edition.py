"""What the full editions of the three tasks share."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.tasks.classification.imagenet import ImageNet
from vitptq.tasks.detection.coco import Coco
from vitptq.tasks.full_edition import FullTask
from vitptq.tasks.published_lists import SEEDS
from vitptq.tasks.segmentation.ade20k import Ade20k

EDITIONS = pytest.mark.parametrize("cls", [ImageNet, Coco, Ade20k])


@EDITIONS
def test_data_and_checkpoints_are_below_the_root(cls: type[FullTask], tmp_path: Path) -> None:
    task = cls(root=tmp_path)  # type: ignore[call-arg]
    assert task.folder == tmp_path / task.data_folder
    assert task.checkpoints == tmp_path / "checkpoints"
    assert str(task.folder) in task.missing_data
    task.prepare()
    assert not list(tmp_path.iterdir())


@EDITIONS
def test_calibration_sets_are_the_beginnings_of_the_published_lists(cls: type[FullTask]) -> None:
    task = cls()  # type: ignore[call-arg]
    for seed in SEEDS:
        assert task.calibration_names(128, seed)[:32] == task.calibration_names(32, seed)
    assert task.calibration_names(32, 0) != task.calibration_names(32, 1)


@EDITIONS
def test_the_record_names_the_published_lists(cls: type[FullTask]) -> None:
    folder, _, rest = cls().calibration_source.partition("/calibration_seed<seed>.csv")  # type: ignore[call-arg]
    root = Path(__file__).parents[2]
    assert rest and all((root / folder / f"calibration_seed{seed}.csv").is_file() for seed in SEEDS)
