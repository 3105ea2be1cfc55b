"""Write a generated data set so that a folder with its name is always complete."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


class DataError(RuntimeError):
    """Generated data that is not the data this version of the project defines."""


def build_once(out: Path, *, write: Callable[[Path], object], check: Callable[[Path], None]) -> Path:
    """Return `out` after `write` filled it and `check` accepted it; a complete folder is only checked.

    Safe when several processes ask for one folder: each builds a copy beside it; the first to finish wins.
    """
    out = Path(out)
    if _complete(out):
        check(out)
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        write(building)
        check(building)
        # mkdtemp makes the folder private; the data set is not.
        building.chmod(0o755)
        try:
            building.rename(out)
        except OSError:
            if not _complete(out):
                raise
            check(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def read_manifest(root: Path) -> dict[str, Any]:
    """Return the data set's manifest."""
    path = root / "manifest.json"
    if not path.exists():
        raise DataError(f"{root} holds no complete data set (no manifest.json); generate it into a new folder")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, as the last file of the data set."""
    (root / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def compare(manifest: dict[str, Any], expected: dict[str, Any], root: Path) -> None:
    """Raise DataError unless the manifest has every expected entry."""
    problems = [
        f"{key} is {manifest.get(key)}, expected {value}"
        for key, value in expected.items()
        if manifest.get(key) != value
    ]
    if problems:
        raise DataError(
            f"{root} is not the data set asked for: {'; '.join(problems)}. Delete the folder to generate it "
            "again; if the fingerprint alone differs right after generating, another JPEG codec or another version of "
            "the photographs or digits is installed (see tasks/mini/README.md)"
        )


def _complete(root: Path) -> bool:
    # The folder appears by a rename after its manifest was written, so the manifest means that everything is there.
    return (root / "manifest.json").exists()
