"""Where, when and by what something was measured."""

from __future__ import annotations

import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from vitptq.bench import registry
from vitptq.bench.errors import VitptqError
from vitptq.bench.results.cell import Cell, canonical_json, sha256
from vitptq.bench.results.record import UNKNOWN, Provenance

if TYPE_CHECKING:  # a website names the commit of its clone, and needs no torch for that
    import torch

PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "numpy": "numpy",
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "mmseg": "onedl-mmsegmentation",
}
ROOT = Path(__file__).resolve().parents[2]


def now() -> str:
    """Return the current time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def next_second() -> str:
    """Wait for the next whole second and return it: whatever finished before has an earlier time."""
    time.sleep(1 - time.time() % 1)
    return now()


@cache
def versions() -> dict[str, str]:
    """Return the versions that can change a result; "absent" for what is not installed."""
    import torch

    found = {"python": platform.python_version(), "vitptq": _version("vitptq")}
    found |= {name: _version(distribution) for name, distribution in PACKAGES.items()}
    found["torch"] = str(torch.__version__)  # names the build (CUDA or CPU), which the package's version leaves out
    found["cuda"] = torch.version.cuda if torch.cuda.is_available() and torch.version.cuda else "none"
    found["driver"] = _driver()
    return found


def environment(device: torch.device) -> str:
    """Return the hash of what the float gate calls "the same environment": versions and the kind of device."""
    parts = {"versions": versions(), "device": device_name(device)}
    return sha256(canonical_json(parts).encode())[:16]


@cache
def device_name(device: torch.device) -> str:
    """Name the device as a person would: the GPU's model, or the CPU's."""
    if device.type == "cuda":
        import torch

        return str(torch.cuda.get_device_name(device))
    try:
        info = Path("/proc/cpuinfo").read_text()
        model = next(line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model} (CPU)"


@cache
def commit() -> tuple[str, bool | None]:
    """Return the commit of this clone and whether its code differs from it; ("unknown", None) outside a clone.

    The results folder is what a run writes, so it does not make the clone dirty.
    """
    try:
        head = _git("rev-parse", "HEAD")
        status = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
        status += _git("status", "--porcelain", "--untracked-files=normal", "--", "bench", "methods", "tasks")
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN, None
    return head, bool(status)


def commit_problem() -> str:
    """Say why the commit of this clone cannot be told; empty where it can, or where this is no clone."""
    if commit()[0] != UNKNOWN or not (ROOT / ".git").exists():
        return ""
    try:
        _git("rev-parse", "HEAD")
    except subprocess.CalledProcessError as error:
        why = next(iter((error.stderr or "").splitlines()), "git failed")
    except OSError as error:
        why = f"git cannot be run: {error.strerror}"
    else:
        why = "git failed"
    trust = shlex.join(["git", "config", "--global", "--add", "safe.directory", str(ROOT)])
    return (
        f"the commit of {ROOT} cannot be told ({why}), so records say that it is unknown and are not official; "
        f"if the clone is another user's and you trust it: {trust}"
    )


def command() -> str:
    """Return the command line of this process, as a shell would take it."""
    given = os.environ.get("VITPTQ_COMMAND")  # set for the workers by the process that a person started
    if given:
        return given
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def collect(
    device: torch.device,
    started: str,
    unrepeatable: Collection[str] = (),
    cell: Cell | None = None,
    *,
    compiled: bool = False,
) -> Provenance:
    """Return the provenance of a cell that began at `started` and ends now.

    `unrepeatable` are the operations that ran without a repeatable form, `compiled` tells of torch.compile.
    """
    import torch

    from vitptq.bench.run import arithmetic

    head, dirty = commit()
    return Provenance(
        commit=head,
        dirty=dirty,
        versions=versions(),
        device=device_name(device),
        threads=torch.get_num_threads(),
        deterministic=torch.are_deterministic_algorithms_enabled() and not unrepeatable,
        unrepeatable=tuple(sorted(unrepeatable)),
        arithmetic=arithmetic.settings() | ({"compiled": True} if compiled else {}),
        environment=environment(device),
        command=command(),
        started=started,
        finished=max(now(), started),  # a clock that was put back meanwhile makes no cell end before it began
        host=sha256(socket.gethostname().encode())[:12],
        outside=outside_code(cell) if cell is not None else (),
    )


def outside_code(cell: Cell) -> tuple[str, ...]:
    """Name the cell's method and task where their code is not this clone's, but a person's file or another package."""
    found = []
    try:
        method, task = registry.method(cell.method), type(registry.task(cell.task, cell.edition))
    except VitptqError:
        return ()
    for what, name, cls in (("method", cell.method, method), ("task", f"{cell.task}/{cell.edition}", task)):
        if not registry.is_own(cls):
            found.append(f"{what} {name}")
    return tuple(found)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"


def _driver() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none"
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return result.stdout.strip()
