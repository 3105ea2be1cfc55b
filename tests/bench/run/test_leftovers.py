"""Processes that an adapter leaves behind end with its cell."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vitptq.bench.run import leftovers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process groups and subreapers are Linux's")
ROOT = Path(__file__).parents[3]
LEADER = """
import subprocess, sys, time
from vitptq.bench.run import leftovers
leftovers.lead_a_group()
{body}
"""


def gone(pid: int) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def leader(body: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LEADER.format(body=body)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_child_started_inside_is_ended_and_one_from_before_is_not() -> None:
    before = subprocess.Popen(["sleep", "60"])
    try:
        with leftovers.none_left():
            inside = subprocess.Popen(["sleep", "60"])
        assert gone(inside.pid)
        inside.wait()
        assert before.poll() is None
    finally:
        before.kill()
        before.wait()


def test_daemon_is_ended_too() -> None:
    process = leader(
        "with leftovers.none_left():\n"
        "    command = ['sh', '-c', 'setsid sleep 60 >/dev/null 2>&1 & echo $!']\n"
        "    out = subprocess.run(command, capture_output=True, text=True)\n"
        "    time.sleep(0.3)\n"
        "print(out.stdout.strip(), flush=True)\n"
    )
    output, _ = process.communicate(timeout=60)
    assert gone(int(output))


def test_group_of_a_killed_leader_is_ended() -> None:
    process = leader("print(subprocess.Popen(['sleep', '60']).pid, flush=True)\ntime.sleep(60)")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    leftovers.end_group(process.pid)
    assert gone(child)


def test_own_group_is_never_ended() -> None:
    leftovers.end_group(os.getpgrp())
    leftovers.end_group(None)


def test_a_folder_that_nobody_holds_any_more_is_taken_away_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    held = leftovers.TemporaryFolder()
    killed, young = tmp_path / "vitptq-killed", tmp_path / "vitptq-young"
    for folder in (killed, young):
        folder.mkdir()
        (folder / leftovers.HELD).touch()
    for path in (killed / leftovers.HELD, held.path / leftovers.HELD):
        os.utime(path, (0, 0))
    another = leftovers.TemporaryFolder()
    assert set(tmp_path.iterdir()) == {held.path, another.path, young}
    held.remove()
    another.remove()
    assert list(tmp_path.iterdir()) == [young]
