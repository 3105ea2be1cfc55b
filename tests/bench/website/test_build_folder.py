"""Building beside the destination: whole or not at all, and nothing left behind by a killed builder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitptq.bench.website.build_folder import build_folder, swap

ROOT = Path(__file__).parents[3]
BUILDER = """
import sys, time
from pathlib import Path
from vitptq.bench.website.build_folder import build_folder
target = Path(sys.argv[1])
with build_folder(target) as building:
    (building / "half").touch()
    if sys.argv[2] == "swapping":
        target.rename(building.with_name("old"))
    print("ready", flush=True)
    time.sleep(60)
"""


def test_finished_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "site"
    for name in ("first", "second"):
        with build_folder(target) as building:
            (building / name).touch()
            swap(building, target)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [target]


def test_error_while_building_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "site"
    (target / "good").mkdir(parents=True)
    with pytest.raises(ZeroDivisionError), build_folder(target) as building:
        (building / str(1 // 0)).touch()
    assert list(tmp_path.iterdir()) == [target]
    assert (target / "good").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("moment", ["building", "swapping"])
def test_killed_builder_leaves_the_old_folder_and_nothing_else(tmp_path: Path, moment: str) -> None:
    target = tmp_path / "a site"
    (target / "good").mkdir(parents=True)
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(target), moment], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    assert builder.stdout is not None and builder.stdout.readline() == b"ready\n"
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    builder.stdout.close()
    end = time.monotonic() + 30
    while [path.name for path in tmp_path.iterdir()] != ["a site"] and time.monotonic() < end:
        time.sleep(0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["a site"]
    assert (target / "good").exists()
