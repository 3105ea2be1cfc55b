"""Fixtures that several test files of this folder share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torch import nn

from tests.tasks.segmentation.ade20k_tree import (
    CPU,
    NAME,
    TRAINING,
    VALIDATION,
    Disk,
    save_checkpoint,
    task,
    write_tree,
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A data folder as a person would set it up, and the entry of its checkpoint."""
    root = tmp_path_factory.mktemp("data")
    write_tree(root / "ADEChallengeData2016", training=TRAINING, validation=VALIDATION)
    return root, save_checkpoint(root / "checkpoints")


@pytest.fixture
def disk(published: Disk, tmp_path: Path) -> Disk:
    """A copy to damage."""
    return shutil.copytree(published[0], tmp_path / "data"), published[1]


@pytest.fixture(scope="module")
def model(published: Disk) -> nn.Module:
    return task(published).load(NAME, CPU)
