"""The tiny task and planted adapters, registered for one test at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench import registry, suites
from bench.cell import Cell
from bench.cellrun import Run
from bench.store import Store

HERE = Path(__file__).parent
TINY = HERE / "tiny_task.py"
SUITE = """
title = "tiny"
[[cells]]
task = "tiny"
edition = "test"
models = ["vit"]
methods = ["minmax", "repq-vit"]
bits = ["W8A8", "W4A4"]
"""


@pytest.fixture
def tiny() -> Iterator[None]:
    with registry.temporary():
        registry.add_file(TINY)
        yield


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def cells(tiny: None, suite: Path) -> list[Cell]:
    return suites.load(str(suite))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(Store(tmp_path / "results"), torch.device("cpu"), lambda step, done, total: None)
