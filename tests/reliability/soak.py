"""Kill workers, drivers and whole trees of real runs again and again; the end must equal an undisturbed run.

    python -m tests.reliability.soak --kills 50 --minutes 60

Cells of the two-block models of the tests take a second or less each, one of them a reconstruction that goes on from
where it was killed; `--suite quick` takes a family of the embedded edition instead. The counts are in
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.bench.conftest import TINY
from vitptq.bench import registry
from vitptq.bench.results.store import Store
from vitptq.bench.results.verify import verify

FILTERS = ["--only", "task=imagenet", "--only", "model=mini_vit,mini_swin"]
KINDS = ("worker", "driver", "tree")
"""A worker process; the process that a person started; all processes of the run at once."""
PATIENCE_S = 60.0
LONGEST_WAIT_S = 25.0
"""A run is killed at a random moment, from its first import on."""
TINY_SUITE = """
title = "soak"
[[cells]]
task = "tiny"
edition = "test"
models = ["vit"]
methods = ["minmax", "percentile", "repq-vit"]
bits = ["W8A8", "W6A6", "W4A4"]
seeds = [0, 1, 2, 3]
[[cells]]
task = "tiny"
edition = "test"
models = ["vit"]
methods = ["qdrop"]
bits = ["W4A4", "W3A3"]
calibration_size = 16
parameters = { iterations = 12, batch = 16, weight_rate = 0.05, scale_rate = 0.001 }
"""


def main() -> None:
    """Run the soak; exit code 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no kill after this time")
    parser.add_argument("--suite", choices=("tiny", "quick"), default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance, until = random.Random(asked.seed), time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), asked.suite)
        once, disturbed = Path(name, "once"), Path(name, "disturbed")
        soak.start(once).wait()
        kills = asked.kinds * asked.kills
        chance.shuffle(kills)
        done = soak.disturb(disturbed, kills, chance, until)
        soak.start(disturbed).wait()
        lost = differences(once, disturbed)
        temporary = [path for path in disturbed.rglob("*.tmp") if path.is_file()]
    print(", ".join(f"{count} x {kind}" for kind, count in sorted(done.items())), "killed")
    print(
        f"{soak.finished} runs finished in between; {len(lost)} records differ; {len(soak.outlived)} processes outlived"
    )
    print(f"{len(temporary)} temporary files left (swept by the next run once they are a day old)")
    for line in (*lost, *soak.outlived):
        print(f"  {line}")
    sys.exit(bool(lost))


class Soak:
    """Runs of one suite, killed."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.finished = 0
        self.outlived: list[str] = []
        self._command = [sys.executable, "-m", "vitptq.bench.cli", "run", "quick", *FILTERS]
        if suite == "tiny":
            path = folder / "soak.toml"
            path.write_text(TINY_SUITE)
            registry.add_file(TINY)  # for `verify`
            self._command[4:] = [str(path), "--adapter", str(TINY)]

    def start(self, results: Path) -> subprocess.Popen[bytes]:
        """Start a run with two workers, in a session of its own; cells that were killed are tried again."""
        return subprocess.Popen(
            [*self._command, "--workers", "2", "--device", "cpu", "--results", str(results), "--retry", "failed"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def disturb(self, results: Path, kills: list[str], chance: random.Random, until: float) -> Counter[str]:
        """Start runs and kill as asked; where a run has nothing to do any more, it gets some of it again."""
        done: Counter[str] = Counter()
        run, waiting = self.start(results), list(kills)
        while waiting and time.monotonic() < until:
            time.sleep(chance.uniform(0.5, LONGEST_WAIT_S if waiting[-1] != "worker" else 6))
            if run.poll() is not None:
                self.finished += 1
                forget_some(results, chance)
                run = self.start(results)
            elif self._killed(run, waiting[-1], chance):
                done[waiting.pop()] += 1
                if run.poll() is not None:
                    run = self.start(results)
                print(f"{sum(done.values())} of {len(kills)} kills, {self.finished} finished", flush=True)
        run.wait()
        return done

    def _killed(self, run: subprocess.Popen[bytes], kind: str, chance: random.Random) -> bool:
        """Kill something of a run; False where it has no worker yet."""
        below = children(run.pid)
        workers = [process for process in below if "spawn_main" in command_of(process)]
        if kind == "worker":
            if not workers:
                return False
            chance.choice(workers).kill()
            return True
        if kind == "driver":
            run.kill()
        else:
            for process in workers:  # each leads a process group of its own
                with_group(process.pid)
            with_group(run.pid)
        run.wait()
        _, alive = psutil.wait_procs(below, timeout=PATIENCE_S)
        self.outlived += [command_of(process) for process in alive]
        return True


def with_group(pid: int) -> None:
    """Kill a process and its group, where it leads one."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def command_of(process: psutil.Process) -> str:
    """Return a command line; empty where the process is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def forget_some(results: Path, chance: random.Random) -> None:
    """Take a few records away, so that the next run has something to do."""
    paths = sorted(results.glob("records/*.json"))
    for path in chance.sample(paths, min(6, len(paths))):
        path.unlink()


def children(pid: int) -> list[psutil.Process]:
    """Return what runs below a process; none where it is gone."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def differences(once: Path, disturbed: Path) -> list[str]:
    """Compare the records, without their times, and verify the disturbed ones."""
    expected, found = ({r.id: r.result() for r in Store(folder).records()} for folder in (once, disturbed))
    lost = [f"{cell_id[:12]} is missing or differs" for cell_id in expected if found.get(cell_id) != expected[cell_id]]
    return lost + [f"{v.record.id[:12]}: {problem}" for v in verify(Store(disturbed)) for problem in v.problems]


if __name__ == "__main__":
    main()
