"""Batches of one padded size."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.tasks.openmmlab.images_on_disk import CPU, PREPROCESSOR, items
from vitptq.tasks.openmmlab import batches, models


def test_calibration_batches_have_one_padded_size_each_in_order_of_appearance(files: list[Path]) -> None:
    prepare = models.preprocessor({"data_preprocessor": PREPROCESSOR}, "mmdet", CPU)
    found = items(files, [0, 1, 2, 3])
    found_batches = batches.calibration_batches(found, prepare, batch_size=2, divisor=32)
    assert [tuple(batch.shape) for batch in found_batches] == [
        (2, 3, 32, 64),
        (1, 3, 32, 64),
        (1, 3, 64, 64),
    ]
    assert found_batches[0][0, 0, 0, 0] > 1.9 and found_batches[1].min() > -1.1
    assert torch.equal(found_batches[0][0, :, 30:], torch.zeros(3, 2, 64))


def test_evaluation_batches_keep_the_order_and_have_one_padded_size_each(files: list[Path]) -> None:
    found = items(files, [0, 3, 1, 2, 0])
    found_batches = list(batches.equal_batches(found, size=2, divisor=32))
    names = [[Path(item["data_samples"].img_path).stem for item in batch] for batch in found_batches]
    assert names == [["0", "3"], ["1"], ["2", "0"]]


def test_prepared_samples_are_new_and_inputs_normalised(files: list[Path]) -> None:
    prepare = models.preprocessor({"data_preprocessor": PREPROCESSOR}, "mmdet", CPU)
    (item,) = items(files, [1])
    inputs, (sample,) = batches.prepared(prepare, [item])
    expected = (item["inputs"][[2, 1, 0]].float() - prepare.mean) / prepare.std
    assert torch.allclose(inputs[0], expected)
    assert sample is not item["data_samples"]
    assert sample.batch_input_shape == (64, 64) and "batch_input_shape" not in item["data_samples"]
