"""A folder to build in, beside where the result goes; it vanishes with the process, even with one that is killed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT_OVER_S = 24 * 3600
# Waits for the end of its standard input, which is the end of the builder; then the old site goes back to its place if
# the builder died between taking it away and putting the new one there.
_CLEAN_UP = 'cat >/dev/null; [ -e "$2" ] || [ ! -e "$1/old" ] || mv -- "$1/old" "$2"; rm -rf -- "$1"'


@contextmanager
def build_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder whose parent is on the file system of `target`; `swap` puts it in place of `target`."""
    _sweep(target)
    outer = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    watcher = _watcher(outer, target)
    try:
        inner = outer / "new"
        inner.mkdir(mode=0o755)  # readable for a web server; temporary folders are not
        inner.chmod(0o755)
        yield inner
    finally:
        if watcher is not None and watcher.stdin is not None:
            watcher.stdin.close()
            watcher.wait()
        shutil.rmtree(outer, ignore_errors=True)


def swap(building: Path, target: Path) -> None:
    """Put the finished folder in place. Only whole folders are renamed, so no reader ever meets half a site."""
    if not target.exists():
        building.rename(target)
        return
    old = building.with_name("old")
    target.rename(old)
    try:
        building.rename(target)
    except OSError:
        old.rename(target)
        raise


def _watcher(outer: Path, target: Path) -> subprocess.Popen[bytes] | None:
    """Start what cleans up after a builder that is killed; in a session of its own, or it would be killed with it."""
    command = ["sh", "-c", _CLEAN_UP, "sh", str(outer), str(target)]
    with suppress(OSError):
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
    return None


def _sweep(target: Path) -> None:
    """Remove what builds left whose whole machine went down."""
    for folder in target.parent.glob(f"{_prefix(target)}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFT_OVER_S and target.exists():
                shutil.rmtree(folder)


def _prefix(target: Path) -> str:
    return f".{target.name}-building-"
