"""A data set that is generated: what defines it, and a folder with its name that is always complete."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 1
CALIBRATION_SEEDS = range(5)

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


class DataError(RuntimeError):
    """Generated data that is not the data this version of the project defines."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of images per split."""

    train: int
    val: int


@dataclass(frozen=True)
class GeneratedData:
    """What defines a generated data set; seed 0 and the standard counts are what published scores belong to."""

    kind: str
    """First word of the generated folder's name."""
    standard: Counts
    fingerprint: str
    """Sha256 over decoded pixels, names and labels of the standard data."""
    lists: Path
    """The published calibration lists."""
    write: Callable[[Path, int, Counts, Progress | None], str]
    """Writes images into an empty folder for a seed and counts; returns their fingerprint."""
    training_names: Callable[[int], Sequence[Any]]
    """Names so many training images, in their order; JSON values."""

    def generate(
        self, out: Path, *, seed: int = 0, counts: Counts | None = None, progress: Progress | None = None
    ) -> Path:
        """Return `out` after writing the data set there; a complete one is reused.

        Safe when several processes ask for one folder: each builds a copy beside it; the first to finish wins.
        """
        counts = counts or self.standard

        def write(root: Path) -> None:
            found = self.write(root, seed, counts, progress)
            write_manifest(root, {**self._expected(seed, counts), "fingerprint": found})

        return build_once(out, write=write, check=lambda root: self.check(root, seed=seed, counts=counts))

    def check(self, root: Path, *, seed: int = 0, counts: Counts | None = None) -> None:
        """Raise DataError unless the manifest in `root` describes the data set asked for; images are not read."""
        compare(read_manifest(root), self._expected(seed, counts or self.standard), root)

    def calibration_lists(self, counts: Counts | None = None) -> dict[str, list[Any]]:
        """Return, per seed, all training images in a random order: the first 32 are the 32-image set, and so on."""
        names = self.training_names((counts or self.standard).train)
        orders = {
            seed: np.random.Generator(np.random.PCG64(seed)).permutation(len(names)) for seed in CALIBRATION_SEEDS
        }
        return {str(seed): [names[index] for index in order] for seed, order in orders.items()}

    def _expected(self, seed: int, counts: Counts) -> dict[str, Any]:
        expected: dict[str, Any] = {"schema": SCHEMA, "seed": seed, "counts": asdict(counts)}
        return expected | ({"fingerprint": self.fingerprint} if (seed, counts) == (0, self.standard) else {})


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
