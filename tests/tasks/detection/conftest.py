"""Fixtures that several test files of this folder share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torch import nn

from tests.tasks.detection import coco_tree
from tests.tasks.detection.coco_tree import CPU, Arrays, SmallCoco, ignore


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    coco_tree.write(root)
    return root


@pytest.fixture(scope="module")
def task(root: Path) -> SmallCoco:
    return SmallCoco(root)


@pytest.fixture(scope="module")
def model(task: SmallCoco) -> nn.Module:
    return task.load("small", CPU)


@pytest.fixture(scope="module")
def measured(task: SmallCoco, model: nn.Module) -> Arrays:
    return task.evaluate(model, "small", CPU, ignore)


@pytest.fixture
def tree(root: Path, tmp_path: Path) -> SmallCoco:
    """A tree of one's own, to damage."""
    shutil.copytree(root / "coco", tmp_path / "coco")
    return SmallCoco(tmp_path)
