"""The tiny task and planted adapters, registered for one test at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vitptq.bench import registry
from vitptq.bench.results import suites
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.store import Store
from vitptq.bench.run.cell_run import Run

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
