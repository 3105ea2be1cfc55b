"""Images decoded by a library's test pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tasks.openmmlab.images_on_disk import folder
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.openmmlab import images


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_read_images_after_opencv_has_used_its_threads(files: list[Path]) -> None:
    import cv2

    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), dtype=np.uint8), (9, 9), 0)  # starts the pool
    assert len(list(images.items(folder(files), [0, 1, 2, 3], workers=2))) == 4


# Python 3.12 warns of forking beside torch's threads; torch's loader does it.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_items_come_in_order_and_spare_the_global_generator(files: list[Path], workers: int) -> None:
    before = torch.random.get_rng_state()
    found = list(images.items(folder(files), [3, 0, 2], workers=workers))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [Path(item["data_samples"].img_path).name for item in found] == ["3.png", "0.png", "2.png"]
    assert [tuple(item["inputs"].shape) for item in found] == [(3, 30, 40), (3, 30, 40), (3, 20, 33)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b"not an image"), "failed to load image"),
        (lambda file: file.write_bytes(file.read_bytes()[:-300]), "truncated"),
        (lambda file: file.unlink(), "No such file"),
    ],
)
def test_damaged_image_is_named(files: list[Path], workers: int, damage: Any, message: str) -> None:
    damage(files[1])
    with pytest.raises((BadInput, Missing), match=rf"^\S+1\.png .*{message}"):
        list(images.items(folder(files), [0, 1, 2], workers=workers))
