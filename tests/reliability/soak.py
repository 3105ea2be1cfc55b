"""Kill workers and the driver of a real run again and again; the end must equal an undisturbed run.

    python -m tests.reliability.soak --workers 30 --drivers 10

Runs one family of the quick suite on the embedded edition: cells of a few seconds, some with a reconstruction that goes
on from where it was killed. The counts are in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from vitptq.bench.results.store import Store
from vitptq.bench.results.verify import verify

FILTERS = ["--only", "task=imagenet", "--only", "model=mini_vit,mini_swin"]
SETTLED_S = 12.0
"""Importing torch takes a new driver and its workers so long that a kill before tells little."""


def main() -> None:
    """Run the soak; exit code 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=30, help="how many workers to kill")
    parser.add_argument("--drivers", type=int, default=10, help="how many drivers to kill")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        once, disturbed = Path(name, "once"), Path(name, "disturbed")
        start(once).wait()
        kills = ["worker"] * asked.workers + ["driver"] * asked.drivers
        chance.shuffle(kills)
        done = disturb(disturbed, kills, chance)
        start(disturbed, "--retry", "failed").wait()
        lost = differences(once, disturbed)
        leftovers = [path for path in disturbed.rglob("*.tmp") if path.is_file()]
    print(f"{done.count('worker')} workers and {done.count('driver')} drivers killed; {len(lost)} records differ")
    print(f"{len(leftovers)} temporary files left (swept by the next run once they are a day old)")
    for line in lost:
        print(f"  {line}")
    sys.exit(bool(lost))


def disturb(results: Path, kills: list[str], chance: random.Random) -> list[str]:
    """Start runs and kill as asked, until every kill is done; a finished run starts again in another folder's place."""
    done: list[str] = []
    run = start(results)
    began = time.monotonic()
    while len(done) < len(kills):
        time.sleep(chance.uniform(0.5, 6))
        if run.poll() is not None:
            forget_some(results, chance)
            run, began = start(results, "--retry", "failed"), time.monotonic()
        if time.monotonic() - began < SETTLED_S:
            continue
        victim = kills[len(done)]
        if victim == "driver":
            run.kill()
            run.wait()
            run, began = start(results, "--retry", "failed"), time.monotonic()
        else:
            workers = [p for p in children(run.pid) if "spawn_main" in " ".join(p.cmdline())]
            if not workers:
                continue
            chance.choice(workers).kill()
        done.append(victim)
    run.wait()
    return done


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


def start(results: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start a run with two workers."""
    command = [sys.executable, "-m", "vitptq.bench.cli", "run", "quick", *FILTERS, "--workers", "2"]
    return subprocess.Popen(
        [*command, "--results", str(results), *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main()
