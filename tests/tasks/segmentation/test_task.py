"""Calibration and evaluation on a small tree in ADE20K's format, with a small UPerNet."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch import nn

from tests.tasks.segmentation.ade20k_tree import (
    CLASSES,
    CPU,
    NAME,
    SIZES,
    VALIDATION,
    Disk,
    evaluated,
    task,
)
from vitptq.bench.errors import BadInput
from vitptq.tasks.openmmlab import images as mm_images
from vitptq.tasks.openmmlab import libraries
from vitptq.tasks.segmentation import evidence

pytestmark = pytest.mark.skipif(bool(libraries.problems()), reason="OpenMMLab's libraries are not installed")


def test_evidence_is_compact_and_in_the_order_of_the_names(published: Disk, model: nn.Module) -> None:
    found = evaluated(task(published), model)
    assert {(values.dtype, values.shape) for values in found.values()} == {(evidence.COUNT, (VALIDATION, CLASSES))}
    for row, (height, width) in zip(found["labelled"], SIZES, strict=True):
        assert 0.4 * height * width < row.sum() < height * width  # all but the pixels without a label


def test_calibration_reads_the_listed_images_and_no_labels(disk: Disk, model: nn.Module) -> None:
    ade20k = task(disk)
    folder = ade20k.folder / "images" / "training"
    shutil.rmtree(ade20k.folder / "annotations" / "training")
    listed = ade20k.calibration_files(ade20k.calibration_names(3, 0))
    assert [file.name for file in listed] == [f"ADE_train_{n:08d}.jpg" for n in (4, 1, 6)]
    whole = list(ade20k.calibration(NAME, 3, 0, CPU).batches())
    for file in folder.iterdir():
        if file not in listed:
            file.write_bytes(b"must not be read")
    calibration = ade20k.calibration(NAME, 3, 0, CPU)
    assert [batch.shape for batch in calibration.batches()] == [(1, 3, 32, 48), (2, 3, 32, 45)]
    assert all(map(torch.equal, whole, calibration.batches()))
    assert len(calibration.digest) == 64
    assert calibration.input.shape == (3, 32, 32)
    *_, logits = calibration.forward(model, whole[0])
    assert logits.shape == (1, CLASSES, 16, 24)
    pixels = whole[0] * torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
    pixels += torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
    assert torch.allclose(pixels, pixels.round(), atol=1e-3)  # RGB in the mean's order


def test_evaluation_image_among_the_training_images_is_refused(disk: Disk) -> None:
    images = task(disk).folder / "images"
    shutil.copy(images / "validation" / "ADE_val_00000002.jpg", images / "training" / "ADE_train_00000004.jpg")
    with pytest.raises(BadInput, match=r"ADE_train_00000004\.jpg is the evaluation image ADE_val_00000002\.jpg"):
        task(disk).calibration(NAME, 2, 0, CPU)


def test_damaged_label_map_is_found_before_any_image_is_decoded(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mm_images, "decode", lambda *_a, **_o: pytest.fail("decoded"))
    file = task(disk).folder / "annotations" / "validation" / "ADE_val_00000005.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(BadInput, match=r"ADE_val_00000005\.png is not a readable label map"):
        task(disk).preload(NAME)


def test_other_number_of_images_is_refused(published: Disk) -> None:
    with pytest.raises(BadInput, match="validation has 5 images, expected 2000"):
        task(published, images=2000).preload(NAME)


def test_details_fit_a_record(published: Disk) -> None:
    details = task(published).details(NAME)
    assert json.loads(json.dumps(details)) == details
    assert details["transform"]["test"][1] == {"type": "Resize", "scale": [128, 32], "keep_ratio": True}
    assert details["checkpoint"]["sha256"].startswith(published[1].digest)
    assert str(published[0]) not in json.dumps(details)
