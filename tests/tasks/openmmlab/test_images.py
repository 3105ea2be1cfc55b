"""Images decoded by a library's test pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tasks.openmmlab.images_on_disk import folder, source
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.decoding import Decoded, decoded
from vitptq.tasks.openmmlab import images

# Python 3.12 warns of forking beside torch's threads; torch's loader does it.
forking = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@forking
def test_workers_read_images_after_opencv_has_used_its_threads(files: list[Path]) -> None:
    import cv2

    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), dtype=np.uint8), (9, 9), 0)  # starts the pool
    assert len(list(decoded(source(files, [0, 1, 2, 3] * 5, decoders=2)))) == 20


def test_item_is_what_it_was_after_it_was_kept_as_plain_values(files: list[Path]) -> None:
    before = folder(files)[2]
    kept = images.from_item(before)
    assert json.loads(json.dumps(kept.facts)) == kept.facts
    after = images.as_item(Decoded(kept.arrays, json.loads(json.dumps(kept.facts))), "mmdet")
    assert torch.equal(after["inputs"], before["inputs"])
    assert type(after["data_samples"]) is type(before["data_samples"])
    assert after["data_samples"].metainfo == before["data_samples"].metainfo


def test_item_can_be_written_to_and_leaves_what_is_kept(files: list[Path]) -> None:
    kept = images.decode(folder(files), 0)
    first = kept.arrays["pixels"].copy()
    images.as_item(kept, "mmdet")["inputs"].zero_()
    assert np.array_equal(kept.arrays["pixels"], first)


@forking
@pytest.mark.parametrize("decoders", [0, 1])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b"not an image"), "failed to load image"),
        (lambda file: file.write_bytes(file.read_bytes()[:-300]), "truncated"),
        (lambda file: file.unlink(), "No such file"),
    ],
)
def test_damaged_image_is_named(files: list[Path], decoders: int, damage: Any, message: str) -> None:
    damage(files[1])
    with pytest.raises((BadInput, Missing), match=rf"^\S+1\.png .*{message}"):
        list(decoded(source(files, [0, 1, 2], decoders)))
