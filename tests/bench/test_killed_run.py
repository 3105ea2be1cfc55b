"""`vitptq run`, killed in the middle of a reconstruction and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store

HERE = Path(__file__).parent
SUITE = """
title = "one reconstruction"
[[cells]]
task = "tiny"
edition = "test"
models = ["vit"]
methods = ["qdrop"]
bits = ["W3A3"]
calibration_size = 16
parameters = { iterations = 12, batch = 16, weight_rate = 0.05, scale_rate = 0.001 }
"""
PATIENCE_S = 300


def started(suite: Path, results: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "vitptq.bench.cli",
        "run",
        str(suite),
        "--results",
        str(results),
        "--device",
        "cpu",
    ]
    command += ["--adapter", str(HERE / "tiny_task.py")]
    with (results.parent / f"{results.name}.log").open("ab") as log:
        # a session of its own: the workers can be killed with it
        return subprocess.Popen(command, cwd=HERE.parents[1], stdout=log, stderr=log, start_new_session=True)


def finished_units(results: Path) -> list[Path]:
    return list((results / ".work").glob("*/*.unit"))


def quantised(results: Path) -> Record:
    (record,) = (r for r in Store(results).records() if r.cell.method == "qdrop")
    return record


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_a_killed_run_goes_on_and_its_evidence_is_that_of_an_undisturbed_one(tmp_path: Path) -> None:
    suite = tmp_path / "one.toml"
    suite.write_text(SUITE)
    once, disturbed = tmp_path / "once", tmp_path / "disturbed"
    assert started(suite, once).wait(PATIENCE_S) == 0, (tmp_path / "once.log").read_text()

    run = started(suite, disturbed)
    end = time.monotonic() + PATIENCE_S
    while not finished_units(disturbed) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    left = len(finished_units(disturbed))
    assert left
    assert not any(r.cell.method == "qdrop" for r in Store(disturbed).records())

    assert started(suite, disturbed).wait(PATIENCE_S) == 0, (tmp_path / "disturbed.log").read_text()
    whole, resumed = quantised(once), quantised(disturbed)
    assert resumed.details.method.figures["reconstruction, resumed units"] == left
    assert whole.evidence is not None and resumed.evidence is not None
    assert resumed.evidence.sha256 == whole.evidence.sha256
    assert resumed.scores == whole.scores
    assert resumed.cell == whole.cell
    assert not finished_units(disturbed)


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_sigterm_ends_a_run_with_a_sentence_and_its_workers(tmp_path: Path) -> None:
    import psutil

    suite, results = tmp_path / "one.toml", tmp_path / "results"
    suite.write_text(SUITE)
    run = started(suite, results)
    end = time.monotonic() + PATIENCE_S
    while not finished_units(results) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    workers = psutil.Process(run.pid).children(recursive=True)
    run.terminate()
    assert run.wait(PATIENCE_S) == 143
    log = (tmp_path / "results.log").read_text()
    assert "stopped by SIGTERM; what was measured is kept" in log
    assert "Traceback" not in log
    assert not psutil.wait_procs(workers, timeout=30)[1]
