"""A killed reconstruction goes on behind the last finished unit, with the bits of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods.core.reconstruct.killed import SETTINGS
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.reconstruct import Settings, all_units, reconstruct
from vitptq.methods.core.reconstruct.least_error_start import calibrated

ROOT = Path(__file__).parents[4]


def run(folder: Path | None, settings: Settings = SETTINGS) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    net, twin = calibrated(two_block_models()["Swin"], RandomImages(), BitSpec(3, 3))
    with reporting.listening(folder=folder) as heard:
        reconstruct(net, twin, RandomImages(), settings, units=all_units(net))
    return net.model.state_dict(), heard.figures, heard.notes


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Tensor]:
    return run(None)[0]


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    script = Path(__file__).with_name("killed.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script), str(folder)], cwd=ROOT, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    return folder


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(x, right[name]) for name, x in left.items())


def test_killed_run_goes_on_with_the_same_bits(left_behind: Path, undisturbed: dict[str, Tensor]) -> None:
    assert len(list(left_behind.iterdir())) == 2  # the patch embedding and the first block were finished
    state, details, notes = run(left_behind)
    assert same(state, undisturbed)
    assert details["reconstruction, resumed units"] == 2
    assert notes == []  # results are compared with their notes: a resumed one must have none of its own
    state, details, _ = run(left_behind)
    assert same(state, undisturbed)
    assert details["reconstruction, resumed units"] == 5


def test_damaged_and_foreign_files_are_ignored(tmp_path: Path, undisturbed: dict[str, Tensor]) -> None:
    run(tmp_path)
    files = sorted(tmp_path.iterdir())
    files[1].write_bytes(files[1].read_bytes()[:-7] + b"damaged")
    files[2].write_bytes(b"")
    state, details, _ = run(tmp_path)
    assert same(state, undisturbed)
    assert details["reconstruction, resumed units"] == 3
    assert details["reconstruction, files of other runs ignored"] == [files[1].name, files[2].name]


def test_another_seed_does_not_take_the_finished_units(tmp_path: Path, undisturbed: dict[str, Tensor]) -> None:
    run(tmp_path, replace(SETTINGS, seed=2))
    state, details, _ = run(tmp_path)
    assert same(state, undisturbed)
    assert "reconstruction, resumed units" not in details
