"""Throughput of one run with more and more workers: cells that sleep, so that cores are not what is measured.

    python -m tests.reliability.scaling --workers 1 2 4 8 16 32 --seconds 20 --cells 3

Each worker gets the same number of cells; from its first cell on, so that starting it is left out, its cells per second
are counted. The figures are in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.bench.conftest import TINY
from vitptq.bench import registry
from vitptq.bench.results import suites
from vitptq.bench.run.plan import ExecutorName, Plan
from vitptq.bench.run.schedule import run_cells

LOG = "VITPTQ_SLEEP_LOG"
SLEEPS = """
import os, time
from dataclasses import dataclass
from pathlib import Path
from vitptq.bench.contracts.method import Method
from vitptq.methods.minmax import MinMax
@dataclass(frozen=True)
class Sleeps(Method):
    "Sleeps, then quantises."
    name, title, fidelity = "sleeps", "Sleeps", "paper"
    seconds: float = 20.0
    def quantize(self, model, calibration, bits):
        time.sleep(self.seconds)
        with Path(os.environ["VITPTQ_SLEEP_LOG"], str(os.getpid())).open("a") as log:
            log.write(f"{time.monotonic()}\\n")
        return MinMax().quantize(model, calibration, bits)
"""
SUITE = """
title = "sleep"
[[cells]]
task = "tiny"
edition = "test"
models = ["vit"]
methods = ["sleeps"]
bits = ["W4A4"]
seeds = {seeds}
parameters = {{ seconds = {seconds} }}
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--cells", type=int, default=3, help="per worker")
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    parser.add_argument("--address", default="auto")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sleeps.py").write_text(SLEEPS)
        for path in (TINY, folder / "sleeps.py"):
            registry.add_file(path)
        alone = 0.0
        for workers in asked.workers:
            rate = throughput(folder, workers, asked.cells, asked.seconds, asked.executor, asked.address)
            alone = alone or rate / workers
            print(f"{workers:3} workers: {rate:7.3f} cells/s, {rate / workers / alone:6.1%} of linear", flush=True)


def throughput(
    folder: Path, workers: int, cells: int, seconds: float, executor: ExecutorName, address: str
) -> float:  # fmt: skip
    """Return the cells per second of all workers together."""
    log, suite = folder / f"log-{workers}", folder / f"{workers}.toml"
    log.mkdir()
    os.environ[LOG] = str(log)
    suite.write_text(SUITE.format(seeds=list(range(workers * cells)), seconds=seconds))
    plan = Plan(
        folder / f"results-{workers}", "cpu", workers, adapters=registry.added_files(), executor=executor,
        address=address,
    )  # fmt: skip
    run_cells(suites.load(str(suite)), plan, lambda cell, record: None, lambda steps: None)
    return sum(rates(log))


def rates(log: Path) -> list[float]:
    """Return the cells per second of each worker that did more than one, from the end of its first sleep on."""
    ends: dict[str, list[float]] = defaultdict(list)
    for path in log.iterdir():
        ends[path.name] = sorted(float(line) for line in path.read_text().split())
    return [(len(times) - 1) / (times[-1] - times[0]) for times in ends.values() if len(times) > 1]


if __name__ == "__main__":
    main()
