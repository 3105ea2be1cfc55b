"""gpu.py: shares of the time, what must be installed, and that a part runs on the CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import gpu
from vitptq.bench.results import suites

CPU = torch.device("cpu")


def test_the_parts_that_are_asked_for_share_the_time() -> None:
    assert gpu.shares(["suite", "checks"], 80) == pytest.approx({"checks": 40, "suite": 40})
    assert sum(gpu.shares(list(gpu.PARTS), 600).values()) == pytest.approx(600)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu, "has", lambda name: name not in ("pebble", "rich"))
    assert gpu.main(["--device", "cpu"]) == 2
    assert "not installed: pebble, rich" in capsys.readouterr().err


def test_a_device_that_is_not_here_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cuda:99", "--out", str(tmp_path)]) == 2
    assert 'device "cuda:99" is not here' in capsys.readouterr().err


def test_the_suite_has_the_methods_that_it_begins_with() -> None:
    here = {cell.method for cell in suites.load("mini") if cell.task == "imagenet"}
    assert set(gpu.FAST.split(",")) <= here


def test_machines_without_openmmlab_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has", lambda name: name != "mmcv")
    assert "detectors and segmenters are left out, not installed: mmcv" in gpu.facts(CPU)


def test_a_command_that_takes_too_long_is_ended() -> None:
    assert not gpu.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)
    assert gpu.run([sys.executable, "-c", ""], 60)


def test_what_a_command_prints_is_read_line_by_line() -> None:
    lines: list[str] = []
    printing = "print('a.py::test_it[Mask R-CNN Swin-omse] PASSED [ 5%]')"
    assert gpu.run([sys.executable, "-c", printing], 60, read=lines.append)
    found = [gpu.OUTCOME.search(line) for line in lines]
    assert [match.groups() for match in found if match] == [("test_it[Mask R-CNN Swin-omse]", "PASSED")]


def test_contracts_stop_when_the_time_is_over() -> None:
    checks = gpu.contracts(CPU, -1.0)
    assert (checks.passed, checks.complete, checks.failures) == (0, False, ())


def test_timings_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = gpu.Size(
        "vit_tiny_patch16_224", batch=1, images=1, precisions=("fp32",), methods=("minmax",), compiled=False
    )
    monkeypatch.setitem(gpu.SIZES, "cpu", size)
    monkeypatch.setattr(gpu, "EVALUATED", ())
    assert gpu.tried(CPU, tmp_path, {"timings": 60.0}) == 0
    assert [timing["what"] for timing in json.loads((tmp_path / "timings.json").read_text())] == [
        "forward, float, fp32",
        "quantise minmax W4A4",
    ]
    assert "| forward, float, fp32 |" in (tmp_path / "table.md").read_text()
