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
from vitptq.bench.contracts.locations import image_cache
from vitptq.bench.errors import BadInput
from vitptq.tasks.openmmlab import images


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


def test_preload_decodes_once_while_nothing_changes(tree: SmallCoco, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.preload("small")
    asked: list[int] = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda source, index: asked.append(index) or decode(source, index))
    tree.drop_images()
    tree.preload("small")
    assert asked == []
    os.utime(tree.val / "000000000102.jpg", ns=(1, 1))
    tree.preload("small")
    assert sorted(asked) == [0, 1, 2, 3]


def test_evidence_is_the_same_with_and_without_images_on_disk(
    root: Path, model: nn.Module, measured: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITPTQ_NO_CACHE", "1")
    for room in (0, 10**9):
        streaming = SmallCoco(root, cache_bytes=room)
        streaming.preload("small")
        found = streaming.evaluate(model, "small", CPU, ignore)
        assert all(np.array_equal(found[name], values) for name, values in measured.items())


def test_calibration_is_the_same_with_and_without_images_on_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list(SmallCoco(root).calibration("small", 3, 0, CPU).batches())
    monkeypatch.setenv("VITPTQ_NO_CACHE", "1")
    decoded = list(SmallCoco(root).calibration("small", 3, 0, CPU).batches())
    assert all(torch.equal(one, other) for one, other in zip(kept, decoded, strict=True))


def test_folders_of_images_are_named_with_that_of_the_decoded_ones(
    task: SmallCoco, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert task.image_folders() == (task.folder, image_cache())
    assert image_cache() in task.evaluation_folders()
    monkeypatch.setenv("VITPTQ_NO_CACHE", "1")
    assert task.image_folders() == (task.folder,)


def test_record_has_the_hash_of_the_decoded_images(task: SmallCoco) -> None:
    task.preload("small")
    assert len(task.pixels_hash("small")["pixels"]) == 64
