"""What a cell or a killed run leaves behind, and its end: processes of an adapter, folders of temporary files."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

PR_SET_CHILD_SUBREAPER = 36
PATIENCE_S = 5.0
PREFIX = "vitptq-"
HELD = ".held"
"""Name of the lock in a temporary folder: the operating system releases it with the process that holds it."""
YOUNG_S = 60
"""Age up to which a folder may be about to be locked."""


class TemporaryFolder:
    """A folder for temporary files; of a process that was killed, the next one on the machine takes it away."""

    def __init__(self) -> None:
        """Make the folder, after taking away those that nobody holds."""
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = FileLock(self.path / HELD)
        self._lock.acquire()

    def remove(self) -> None:
        """Take the folder away."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _sweep(place: Path) -> None:
    for held in place.glob(f"{PREFIX}*/{HELD}"):
        with suppress(OSError, Timeout):
            if time.time() - held.stat().st_mtime > YOUNG_S:
                with FileLock(held, timeout=0):
                    shutil.rmtree(held.parent, ignore_errors=True)


def lead_a_group() -> None:
    """Put this process and what it starts into a group of their own, and make it the parent of daemons (Linux).

    So all of them can be found: by this process while it lives, by the one that started it afterwards.
    """
    if os.getpgrp() != os.getpid():
        os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


@contextmanager
def none_left() -> Iterator[None]:
    """End on leaving every process below this one that was started inside."""
    before = {child.pid for child in _below()}
    try:
        yield
    finally:
        # what multiprocessing tracks shared memory with serves the whole process, whoever started it
        kept = before | {getattr(resource_tracker._resource_tracker, "_pid", None)}
        end([child for child in _below() if child.pid not in kept])


def end(processes: list[psutil.Process]) -> None:
    """Kill processes and wait until they are gone."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=PATIENCE_S)


def end_group(leader: int | None) -> None:
    """Kill what is left of the process group of a worker that was lost."""
    if leader is not None and leader > 1 and leader != os.getpgrp():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def _below() -> list[psutil.Process]:
    try:
        return psutil.Process().children(recursive=True)
    except psutil.Error:
        return []
