"""Processes that an adapter started and left behind: they end with its cell, so that the next one has the machine."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker

import psutil

PR_SET_CHILD_SUBREAPER = 36
PATIENCE_S = 5.0


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
