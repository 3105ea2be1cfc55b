"""Cells on a Ray cluster: what they take of its nodes, what comes back, and nodes that are lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.bench.conftest import TINY
from tests.bench.record_factory import make_record
from vitptq.bench.errors import BadInput, Missing
from vitptq.bench.results.store import Store
from vitptq.bench.run.executors import ray_nodes
from vitptq.bench.run.executors.on_node import Answer
from vitptq.bench.run.executors.ray_nodes import Share, share

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
PATIENCE_S = 400
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an extra: python3 start.py ray")


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "expected"),
    [
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}], "auto", None, Share(4, 1)),
        ([{"CPU": 2.0, "GPU": 4.0}], "cuda", None, Share(1, 1)),
        ([{"CPU": 16.0, "GPU": 4.0}], "cpu", None, Share(16, 0)),
        ([{}, {"CPU": 4.0}, {"CPU": 8.0}], "auto", None, Share(4, 0)),
        ([{"CPU": 4.0}, {"CPU": 4.0}], "auto", 8, Share(1, 0)),
        ([{"CPU": 4.0}, {"CPU": 4.0}], "auto", 32, Share(1, 0)),
    ],
)
def test_a_cell_takes_a_gpu_with_its_part_of_the_cores_or_a_share_of_a_node(
    nodes: list[dict[str, float]], device: str, workers: int | None, expected: Share
) -> None:
    assert share(nodes, device, workers) == expected


def test_a_node_has_room_for_as_many_cells_as_its_scarcer_resource() -> None:
    assert Share(4, 1).fits({"CPU": 16.0, "GPU": 2.0}) == 2
    assert Share(4, 1).fits({"CPU": 7.0, "GPU": 2.0}) == 1
    assert Share(1, 0).fits({"CPU": 3.0}) == 3
    assert Share(1, 1).fits({"CPU": 3.0}) == 0


@pytest.mark.parametrize(
    ("nodes", "device", "words"),
    [
        ([{"CPU": 2.0}], "cuda", "has a GPU"),
        ([{}], "auto", "has a CPU"),
        ([{"CPU": 2.0}], "cuda:1", "cannot be asked of a cluster"),
    ],
)
def test_a_cluster_without_what_is_asked_is_named(nodes: list[dict[str, float]], device: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        share(nodes, device, None)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Missing, match=r"vitptq\[ray\]"):
        ray_nodes._connected("auto")


def test_what_a_node_sends_is_kept_once(tmp_path: Path) -> None:
    store, sent = Store(tmp_path), make_record()
    own, gate = f"{sent.id}.npz", "0123.environment.npz"
    ray_nodes.keep(Answer(True, (sent,), {own: b"first", gate: b"gate"}), store)
    ray_nodes.keep(Answer(True, (sent,), {own: b"second", gate: b"other"}), store)
    assert store.record(sent.cell) == sent
    assert (store.evidence_dir / own).read_bytes() == b"first"
    assert (store.evidence_dir / gate).read_bytes() == b"gate"


METHODS = """
import os, signal, time
from dataclasses import dataclass
from vitptq.bench.contracts.method import Method
from vitptq.methods.minmax import MinMax
@dataclass(frozen=True)
class Sleeps(Method):
    "Planted."
    name, title, fidelity = "sleeps", "Sleeps", "paper"
    def quantize(self, model, calibration, bits):
        time.sleep(2)
        return MinMax().quantize(model, calibration, bits)
@dataclass(frozen=True)
class Exits(Method):
    "Planted."
    name, title, fidelity = "exits", "Exits", "paper"
    def quantize(self, model, calibration, bits):
        os._exit(7)
@dataclass(frozen=True)
class KillsItsKeeper(Method):
    "Planted."
    name, title, fidelity = "kills-its-keeper", "Kills its keeper", "paper"
    def quantize(self, model, calibration, bits):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
"""
CELLS = """
title = "sleep"
[[cells]]
task = "tiny"
edition = "test"
models = ["vit"]
methods = ["sleeps"]
bits = ["W4A4"]
seeds = [0, 1, 2, 3, 4, 5]
[[cells]]
task = "tiny"
edition = "test"
models = ["vit"]
methods = ["exits", "kills-its-keeper"]
bits = ["W4A4"]
"""


@pytest.fixture
def cluster() -> Iterator[subprocess.Popen[str]]:
    """A cluster of two nodes, whose address is the first line of its output."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, str(HERE / "ray_cluster.py"), "2"],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        yield process


@needs_ray
@pytest.mark.slow
def test_cells_of_a_killed_node_and_of_a_killed_process_are_measured_once(
    cluster: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert cluster.stdin is not None and cluster.stdout is not None
    suite, methods, results = tmp_path / "s.toml", tmp_path / "methods.py", tmp_path / "results"
    suite.write_text(CELLS)
    methods.write_text(METHODS)
    command = [sys.executable, "-m", "vitptq.bench.cli", "run", str(suite), "--results", str(results), "--device=cpu"]
    command += ["--executor=ray", f"--address={cluster.stdout.readline().strip()}"]
    command += [f"--adapter={TINY}", f"--adapter={methods}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        end = time.monotonic() + PATIENCE_S
        while len(done(results)) < 3 and run.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        print("kill 1", file=cluster.stdin, flush=True)
        assert cluster.stdout.readline() == "killed\n"
        output, _ = run.communicate(timeout=PATIENCE_S)
    records = Store(results).records()
    assert Counter((r.cell.method, r.status) for r in records) == {
        ("float", "ok"): 1, ("sleeps", "ok"): 6, ("exits", "failed"): 1, ("kills-its-keeper", "failed"): 1
    }, output  # fmt: skip
    failures = {r.cell.method: r.failure.message for r in records if r.failure is not None}
    assert "exit code 7" in failures["exits"]
    assert "lost 3 times" in failures["kills-its-keeper"]
    assert sum("sleeps W4A4" in line and "top1" in line for line in output.splitlines()) == 6
    assert not list(results.glob(".ray-*"))


def done(results: Path) -> list[Path]:
    return list((results / "records").glob("*.json"))


@needs_ray
def test_an_address_without_a_cluster_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no Ray cluster at address"):
        ray_nodes._connected("auto")
