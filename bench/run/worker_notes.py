"""What workers tell the process that started them, as files in one folder: no lock that a killed worker could keep."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from vitptq.bench.results.cell import Cell
from vitptq.bench.run import provenance

SAY_EVERY_S = 0.5
STALE_S = 60
"""Age at which a note of a process that this machine does not list counts as left behind."""
START_ERROR = "start-error.txt"


@dataclass(frozen=True)
class Step:
    """What one worker is doing."""

    label: str
    step: str
    done: int
    total: int


class Speaker:
    """A worker's side: says what this process is doing, not more often than a person can read."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{os.getpid()}.json"
        self._label = ""
        self._last = float("-inf")

    def begin(self, cell: Cell, device: torch.device) -> None:
        """Leave a note that this worker is at `cell` now, and on which device."""
        self._label = cell.label()
        self._path.with_name(f"{cell.id}.begun").write_text(f"{provenance.now()} {device} {os.getpid()}")
        self.say("start", 0, 1)

    def say(self, step: str, done: int, total: int) -> None:
        """Leave a note of the step, `done` of `total`."""
        if 0 < done < total and time.monotonic() - self._last < SAY_EVERY_S:
            return
        self._last = time.monotonic()
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps([[self._label, step, done, total], time.time()]))
            temporary.replace(self._path)
        except OSError:
            pass  # progress is a courtesy: a full disk is reported by what matters

    def end(self) -> None:
        """Take the note of the step away."""
        self._path.unlink(missing_ok=True)


def steps(folder: Path) -> list[Step]:
    """Return what each worker does now."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            step, written = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if Path(f"/proc/{path.stem}").exists() or time.time() - written < STALE_S:
            found.append(Step(*step))
    return found


def begun(folder: Path, cell: Cell) -> tuple[str, torch.device]:
    """Return when a cell was begun and on what, from the note that its worker left."""
    try:
        started, device, _ = (folder / f"{cell.id}.begun").read_text().split()
    except (OSError, ValueError):
        return provenance.now(), torch.device("cpu")
    return started, torch.device(device)


def worker_of(folder: Path, cell: Cell) -> int | None:
    """Return the process id of the worker that began a cell last."""
    try:
        return int((folder / f"{cell.id}.begun").read_text().split()[2])
    except (OSError, ValueError, IndexError):
        return None


def start_error(folder: Path) -> str:
    """Return why the workers could not start."""
    try:
        return (folder / START_ERROR).read_text()
    except OSError:
        return "they died before they could say why; the operating system kills like this when memory runs out"
