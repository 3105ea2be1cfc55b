"""Real runs among faults: adapters that crash, hang or flood, storage that is full, read-only, shared or without links.

    python -m tests.reliability.faults [--only full-disk ...]

Every fault is one or two runs of cells of the two-block models of the tests. Small disks are mounted where the user may
do so; a jump of the clock and missing hard links are made with a library that is preloaded (a C compiler is needed).
The answers are in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_AS, setrlimit

from tests.bench.conftest import SUITE, TINY
from vitptq.bench import registry
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store
from vitptq.bench.results.verify import verify

ADDRESS_SPACE = 16 * 2**30
"""Bytes that a run may map: the adapter that asks for 30 GB shall not take the machine's memory."""
METHODS = """
import os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from vitptq.bench.contracts.method import Method
from vitptq.methods.minmax import MinMax

def planted(called, fault):
    @dataclass(frozen=True)
    class Planted(Method):
        "Planted."
        name, title, fidelity = called, called, "paper"
        def quantize(self, model, calibration, bits):
            fault()
            return MinMax().quantize(model, calibration, bits)
    return Planted

def loop():
    while True:
        pass

def flood():
    for _ in range(1024):
        sys.stdout.write("x" * 2**20)

def litter():
    folder = Path(os.environ["VITPTQ_LITTERED"])
    (folder / "records" / ("0" * 64 + ".json")).write_text("{")
    (folder / "evidence" / "litter.npz").write_text("litter")

Segfault = planted("segfault", lambda: os.kill(os.getpid(), signal.SIGSEGV))
Exit = planted("exit", lambda: os._exit(3))
Loop = planted("loop", loop)
Sleep = planted("sleep", lambda: time.sleep(3600))
Memory = planted("memory", lambda: np.ones(30 * 2**30 // 8))
Flood = planted("flood", flood)
Litter = planted("litter", litter)
"""
PLANTED = ["segfault", "exit", "loop", "sleep", "memory", "flood", "litter"]
EXPECTED = {"segfault": "killed", "exit": "killed", "loop": "hung", "sleep": "hung", "memory": "out_of_memory"}
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(id, now);
    const char *jumped = getenv("SHIM_CLOCK");
    if (id == CLOCK_REALTIME && jumped && !access(jumped, F_OK)) now->tv_sec -= 3 * 86400;
    return status;
}
static int refused(void) { errno = EPERM; return -1; }
int link(const char *a, const char *b) {
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "link");
    return getenv("SHIM_LINKS") ? refused() : real(a, b);
}
int linkat(int f, const char *a, int g, const char *b, int flags) {
    int (*real)(int, const char *, int, const char *, int) = dlsym(RTLD_NEXT, "linkat");
    return getenv("SHIM_LINKS") ? refused() : real(f, a, g, b, flags);
}
"""


def main() -> None:
    """Try the faults; exit code 1 where one was not borne."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    asked = parser.parse_args()
    registry.add_file(TINY)
    wrong = 0
    for name in asked.only:
        with tempfile.TemporaryDirectory() as folder:
            problem = FAULTS[name](Runs(Path(folder)))
        wrong += bool(problem)
        print(f"{name:<16} {problem or 'borne'}", flush=True)
    sys.exit(bool(wrong))


class Runs:
    """Runs of one suite in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results, self.suite = folder, folder / "results", folder / "tiny.toml"
        self.suite.write_text(SUITE)

    def start(self, *options: str, limit: int = RLIM_INFINITY, **environment: str) -> subprocess.Popen[str]:
        """Start a run, which may map `limit` bytes."""
        command = [sys.executable, "-m", "vitptq.bench.cli", "run", str(self.suite), f"--results={self.results}"]
        return subprocess.Popen(
            [*command, "--device=cpu", f"--adapter={TINY}", *options], env=os.environ | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=lambda: setrlimit(RLIMIT_AS, (limit, limit)),
        )  # fmt: skip

    def run(self, *options: str, limit: int = RLIM_INFINITY, **environment: str) -> str:
        """Return what a run prints."""
        output, _ = self.start(*options, limit=limit, **environment).communicate()
        return output

    def complete(self) -> str:
        """Say what is wrong with the results of all five cells; empty where nothing is."""
        records = Store(self.results).readable()
        if len(records) != 5 or any(record.status != "ok" for record in records):
            return f"{len(records)} records: {[(record.cell.label(), record.status) for record in records]}"
        return "; ".join(problem for verdict in verify(Store(self.results)) for problem in verdict.problems)


def planted_adapters(runs: Runs) -> str:
    """Every planted adapter costs its own cell only."""
    methods = runs.folder / "methods.py"
    methods.write_text(METHODS)
    runs.suite.write_text(SUITE.replace('"repq-vit"', ", ".join(f'"{name}"' for name in PLANTED)))
    options = (f"--adapter={methods}", "--limit=1", "--only=bits=W4A4")
    said = runs.run(*options, limit=ADDRESS_SPACE, VITPTQ_LITTERED=str(runs.results))
    found = {record.cell.method: _outcome(record) for record in Store(runs.results).readable()}
    expected = {name: EXPECTED.get(name, "ok") for name in ("float", "minmax", *PLANTED)}
    wrong = [f"{name}: {found.get(name)}, not {kind}" for name, kind in expected.items() if found.get(name) != kind]
    if "Traceback" in said:
        wrong.append(f"a traceback was printed: {said[-600:]}")
    return "; ".join(wrong)


def full_disk(runs: Runs) -> str:
    """A full disk stops the run with a sentence; with room again, the same command goes on."""
    with mounted(runs.results, "size=64k"):
        said = runs.run()
        subprocess.run(["mount", "-o", "remount,size=64m", str(runs.results)], check=True)
        runs.run("--retry", "failed")
        return _sentence(said, "space") or runs.complete()


def read_only_folder(runs: Runs) -> str:
    """A folder that cannot be written is named before anything is measured."""
    with mounted(runs.results, "ro"):
        return _sentence(runs.run(), "ead-only")


def two_drivers(runs: Runs) -> str:
    """Two runs share a folder: each cell is measured once, and both end well."""
    both = [runs.start(), runs.start()]
    outputs = [process.communicate()[0] for process in both]
    missing = [output for output in outputs if "5 done" not in output]
    return "; ".join(missing) or runs.complete()


def clock_jump(runs: Runs) -> str:
    """The clock goes back three days in the middle of a run."""
    jumped = runs.folder / "jumped"
    process = runs.start(LD_PRELOAD=str(shim(runs.folder)), SHIM_CLOCK=str(jumped))
    while process.poll() is None and not list(runs.results.glob("records/*.json")):
        time.sleep(0.1)
    jumped.touch()
    process.communicate()
    return runs.complete()


def no_hard_links(runs: Runs) -> str:
    """A file system without hard links, as many network folders are."""
    runs.run(LD_PRELOAD=str(shim(runs.folder)), SHIM_LINKS="1")
    return runs.complete()


def corrupt_record(runs: Runs) -> str:
    """A damaged record is named and left alone; with it moved away, the same command measures the cell again."""
    runs.run()
    victim = next(iter(sorted(runs.results.glob("records/*.json"))))
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    said = runs.run()
    if victim.name not in said or victim.read_bytes() != whole[: len(whole) // 2]:
        return f"the damaged record was not named, or changed: {said}"
    victim.rename(runs.folder / victim.name)
    runs.run()
    return runs.complete()


FAULTS: dict[str, Callable[[Runs], str]] = {
    "adapters": planted_adapters,
    "full-disk": full_disk,
    "read-only": read_only_folder,
    "two-drivers": two_drivers,
    "clock-jump": clock_jump,
    "no-hard-links": no_hard_links,
    "corrupt-record": corrupt_record,
}


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory at a folder; only the administrator may."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def shim(folder: Path) -> Path:
    """Return the compiled library that makes the clock jump and refuses hard links."""
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def _outcome(record: Record) -> str:
    return record.failure.kind if record.failure is not None else record.status


def _sentence(said: str, word: str) -> str:
    return "" if word in said and "Traceback" not in said else f"it said: {said[-600:]}"


if __name__ == "__main__":
    main()
