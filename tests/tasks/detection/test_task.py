"""Calibration and evaluation on a small tree in COCO's format and small detectors with random weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.tasks.detection.coco_tree import CPU, Arrays, SmallCoco, ignore
from vitptq.bench.errors import BadInput


def test_calibration_reads_listed_training_images_in_order(task: SmallCoco, model: nn.Module) -> None:
    assert list(task.calibration_names(2, seed=0)) == ["2", "0"]
    assert [file.name for file in task.calibration_files(["2", "0"])] == ["000000000003.jpg", "000000000001.jpg"]
    calibration = task.calibration("small", 3, 0, CPU)
    assert [tuple(batch.shape) for batch in calibration.batches()] == [(2, 3, 32, 64), (1, 3, 64, 64)]
    (first, _) = calibration.batches()
    outputs = calibration.forward(model, first)
    assert torch.equal(outputs[0], task.forward(model, first)[0])
    assert calibration.digest == task.calibration("small", 3, 0, CPU).digest
    assert calibration.digest != task.calibration("small", 2, 0, CPU).digest


def test_an_empty_calibration_set_is_refused(task: SmallCoco) -> None:
    with pytest.raises(BadInput, match="0 calibration images: the list of seed 0 has 1 to 3"):
        task.calibration("small", 0, 0, CPU)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_evaluation_images_among_the_training_images_are_refused(tree: SmallCoco, link: Callable[..., None]) -> None:
    leaked = tree.train / "000000000003.jpg"
    leaked.unlink()
    link(tree.val / "000000000101.jpg", leaked)
    with pytest.raises(BadInput, match="000000000003.jpg is an evaluation image"):
        tree.calibration("small", 1, 0, CPU)


def test_another_number_of_images_is_refused(root: Path) -> None:
    with pytest.raises(BadInput, match="lists 4 images, expected 5"):
        SmallCoco(root, images=5).preload("small")


def test_preload_decodes_once_while_nothing_changes(tree: SmallCoco) -> None:
    tree.preload("small")
    first = tree._evaluation_items(tree.annotations())
    assert tree._evaluation_items(tree.annotations()) is first
    os.utime(tree.val / "000000000102.jpg", ns=(1, 1))
    assert tree._evaluation_items(tree.annotations()) is not first


def test_sets_beyond_the_budget_are_read_as_they_are_needed(root: Path, model: nn.Module, measured: Arrays) -> None:
    streaming = SmallCoco(root, cache_bytes=0)
    streaming.preload("small")
    found = streaming.evaluate(model, "small", CPU, ignore)
    assert all(np.array_equal(found[name], values) for name, values in measured.items())


def test_dropping_drops_images_and_folders_are_named(task: SmallCoco) -> None:
    task.preload("small")
    before = task._evaluation_items(task.annotations())
    task.drop_images()
    assert task._evaluation_items(task.annotations()) is not before
    assert task.image_folders() == (task.folder,)
