"""Calibration and evaluation on a generated tree of real JPEG files, with a small timm model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tasks.classification.imagenet_tree import CPU, TAG, WNIDS, ignore, task
from vitptq.bench.errors import BadInput
from vitptq.tasks.classification import images
from vitptq.tasks.image_files import read_image


def test_float_model_is_evaluated_end_to_end(published: Path) -> None:
    imagenet = task(published)
    seen: list[tuple[int, int]] = []
    model = imagenet.load(TAG, CPU)
    evidence = imagenet.evaluate(model, TAG, CPU, lambda *step: seen.append(step))
    assert seen == [(4, 9), (8, 9), (9, 9)]
    assert evidence["labels"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {values.dtype for values in evidence.values()} == {np.dtype(np.int16)}
    assert imagenet.count(evidence) == 9
    matches = (evidence["predictions"] == evidence["labels"]).sum()
    assert imagenet.score(evidence) == {"top1": 100 * matches / 9}


def test_evidence_is_the_same_with_and_without_images_on_disk(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = task(published).load(TAG, CPU)
    on_disk = task(published).evaluate(model, TAG, CPU, ignore)
    monkeypatch.setenv("VITPTQ_NO_CACHE", "1")
    in_memory = task(published).evaluate(model, TAG, CPU, ignore)
    streamed = task(published, cache_bytes=0).evaluate(model, TAG, CPU, ignore)
    assert all(np.array_equal(on_disk[name], in_memory[name]) for name in on_disk)
    assert all(np.array_equal(on_disk[name], streamed[name]) for name in on_disk)


def test_calibration_images_equal_timms_own_transform(published: Path) -> None:
    imagenet = task(published)
    steps = images.transform(imagenet.data_config(TAG))
    own = torch.stack([steps(read_image(file)) for file in imagenet.listed_files(6, 0)])
    (batch,) = imagenet.calibration(TAG, 6, 0, CPU).batches()
    assert torch.equal(batch, own)


def test_small_calibration_set_needs_no_other_image_of_its_list(root: Path) -> None:
    imagenet = task(root)
    imagenet.listed_files(6, 0)[5].write_bytes(b"damaged")
    assert len(next(iter(imagenet.calibration(TAG, 2, 0, CPU).batches()))) == 2


def test_waiting_for_images_is_measured(published: Path) -> None:
    imagenet = task(published)
    imagenet.evaluate(imagenet.load(TAG, CPU), TAG, CPU, ignore)
    assert imagenet.seconds_waited() > 0


def test_evaluation_uses_the_checkpoints_own_transform(published: Path) -> None:
    imagenet = task(published)
    details = imagenet.details(TAG)
    assert details["transform"]["input_size"] == [3, 160, 160]
    assert (details["transform"]["crop_pct"], details["transform"]["interpolation"]) == (0.95, "bicubic")
    assert details["checkpoint"]["file"] == f"{TAG}.safetensors"
    assert len(details["checkpoint"]["sha256"]) == 64
    assert json.loads(json.dumps(details)) == details
    assert str(published) not in json.dumps(details)
    assert imagenet.example(TAG, CPU).shape == (1, 3, 160, 160)


def test_calibration_sets_are_nested_and_equal_byte_for_byte(published: Path) -> None:
    imagenet = task(published)
    assert list(imagenet.calibration_names(6, 0))[:2] == list(imagenet.calibration_names(2, 0))
    large, again = (next(iter(imagenet.calibration(TAG, 6, 0, CPU).batches())) for _ in range(2))
    small = next(iter(imagenet.calibration(TAG, 2, 0, CPU).batches()))
    assert torch.equal(large, again)
    assert torch.equal(large[:2], small)


@pytest.mark.parametrize("size", [0, 7])
def test_calibration_size_beyond_the_list_is_refused(published: Path, size: int) -> None:
    with pytest.raises(BadInput, match=f"{size} calibration images: the list of seed 0 has 1 to 6"):
        task(published).calibration_names(size, 0)


def test_run_whose_train_folder_is_val_is_refused(root: Path) -> None:
    shutil.rmtree(root / "imagenet" / "train")
    (root / "imagenet" / "train").symlink_to(root / "imagenet" / "val")
    with pytest.raises(BadInput, match="calibration would read evaluation images"):
        task(root, lists=lambda _: ["0/0"]).calibration(TAG, 1, 0, CPU)


def test_evaluation_images_copied_to_train_are_refused(root: Path) -> None:
    shutil.rmtree(root / "imagenet" / "train")
    shutil.copytree(root / "imagenet" / "val", root / "imagenet" / "train")
    with pytest.raises(BadInput, match="is an evaluation image"):
        task(root, lists=lambda _: ["0/0"]).calibration(TAG, 1, 0, CPU)


def test_other_number_of_images_is_refused(published: Path) -> None:
    with pytest.raises(BadInput, match="val has 9 images, expected 50000"):
        task(published, images=50_000).evaluation_files()


def test_damaged_evaluation_image_is_named(root: Path) -> None:
    damaged = sorted((root / "imagenet" / "val" / WNIDS[1]).iterdir())[1]
    damaged.write_bytes(b"\xff\xd8\xff")
    imagenet = task(root)
    with pytest.raises(BadInput, match=f"{damaged.name} is not a readable image"):
        imagenet.evaluate(imagenet.load(TAG, CPU), TAG, CPU, ignore)
