"""A small results folder that was really measured."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.bench.conftest import TINY
from vitptq.bench import registry
from vitptq.bench.results import suites
from vitptq.bench.results.store import Store
from vitptq.bench.run.cell_run import Run, run_cell


def measured_pair(results: Path) -> Path:
    """Measure a float cell and a quantised one into a folder, and return it."""
    with registry.temporary():
        registry.add_file(TINY)
        group = suites.Group(task="tiny", edition="test", models=["vit"], methods=["minmax"], bits=["W4A4"])
        for cell in suites.expand(group):
            run_cell(cell, Run(Store(results), torch.device("cpu"), lambda step, done, total: None))
    return results
