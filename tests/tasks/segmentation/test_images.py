"""Evaluation images decoded by mmseg's data sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.tasks.segmentation.ade20k_tree import (
    CPU,
    NAME,
    SIZES,
    VALIDATION,
    Disk,
    evaluated,
    task,
)
from vitptq.tasks import kept_images
from vitptq.tasks.openmmlab import images as mm_images
from vitptq.tasks.openmmlab import libraries
from vitptq.tasks.segmentation import evidence, images
from vitptq.tasks.segmentation.ade20k import PACKAGED
from vitptq.tasks.segmentation.ade20k_models import MODELS

pytestmark = pytest.mark.skipif(bool(libraries.problems()), reason="OpenMMLab's libraries are not installed")


def test_images_on_disk_memory_and_batches_leave_the_evidence_as_it_is(
    published: Disk, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk = evaluated(task(published), model)
    monkeypatch.setenv("VITPTQ_NO_CACHE", "1")
    partly = evaluated(task(published, cache_bytes=15_000), model)
    assert 0 < len(next(iter(kept_images._KEPT.values()))._first) < VALIDATION  # type: ignore[attr-defined]
    streamed = evaluated(task(published, cache_bytes=0, batch_size=1), model)
    for name in on_disk:
        assert np.array_equal(on_disk[name], partly[name])
        assert np.abs(on_disk[name].astype(int) - streamed[name]).max() <= 2  # rounding at ties


def test_progress_counts_the_images_of_equal_sizes(published: Disk, model: nn.Module) -> None:
    seen: list[tuple[int, int]] = []
    task(published).evaluate(model, NAME, CPU, lambda *step: seen.append(step))
    assert seen == [(2, 5), (3, 5), (4, 5), (5, 5)]


def test_preload_decodes_once_until_a_file_changes(
    disk: Disk, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    ade20k = task(disk)
    ade20k.preload(NAME)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(mm_images, "decode", refuse)
        before = evaluated(ade20k, model)
    file = sorted((ade20k.folder / "images" / "validation").iterdir())[0]
    Image.new("RGB", SIZES[0][::-1], (200, 10, 10)).save(file)
    assert not np.array_equal(evaluated(ade20k, model)["predicted"], before["predicted"])


def test_mmsegs_own_configuration_reads_the_standard_layout(published: Disk) -> None:
    ade20k = task(
        published,
        configs=PACKAGED,
        classes=150,
        models={NAME: MODELS["upernet_swin_tiny"]},
    )
    source = images.dataset(ade20k.dataset_config(NAME), ade20k.folder, "validation")
    before = source[1]
    item = mm_images.as_item(mm_images.from_item(before), "mmseg")
    assert item["data_samples"].metainfo == before["data_samples"].metainfo
    assert item["inputs"].shape == (3, 717, 512)
    labels = item["data_samples"].gt_sem_seg.data
    assert labels.dtype == torch.uint8 and labels.shape == (1, *SIZES[1])
    on_disk = np.array(Image.open(ade20k.folder / "annotations" / "validation" / "ADE_val_00000002.png"))
    expected = np.where(np.isin(on_disk, (0, 255)), evidence.IGNORED, on_disk - np.uint8(1))
    assert np.array_equal(labels[0], expected)
