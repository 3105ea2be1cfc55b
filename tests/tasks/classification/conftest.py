"""Fixtures that several test files of this folder share."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tasks.classification.imagenet_tree import TAG, TRAIN, VAL, WNIDS, save_checkpoint


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as a person would set it up."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for wnid in WNIDS:
            folder = root / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                name = f"{wnid}_{number * 7}.JPEG" if split == "train" else f"ILSVRC2012_val_{wnid[-2:]}{number}.JPEG"
                pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name)
    save_checkpoint(root / "checkpoints" / f"{TAG}.safetensors")
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(published, tmp_path / "data")
