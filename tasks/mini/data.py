"""Write the embedded classification edition to disk: real JPEG files in ImageNet's folder layout.

`train/` holds the CALIBRATION pool: the images that a method may look at. The images that trained the weights come
from a third pool; `train.py` composes them on the fly and they are never written. `val/` holds the evaluation pool.
Class directory `n0000000D` is the digit D.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitptq.tasks.mini.compose import compose
from vitptq.tasks.mini.folder import DataError as DataError
from vitptq.tasks.mini.folder import build_once, compare, write_manifest
from vitptq.tasks.mini.folder import read_manifest as read_manifest
from vitptq.tasks.mini.material import CLASSES, DIGITS_PER_CLASS, Bytes, Ints, Pool

SCHEMA = 1
SIDE = 32
CLASS_DIRECTORIES = tuple(f"n{label:08d}" for label in range(CLASSES))
CALIBRATION_LISTS = Path(__file__).with_name("calibration.json")
CALIBRATION_SEEDS = range(5)

# Over decoded pixels, labels and names of the standard edition (seed 0, standard counts).
FINGERPRINT = "0c12a243b06aee389e0e77f9fd9f1293516459ed211ba741d48a3208e2f54ff9"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of images per folder."""

    train: int = 1024
    val: int = 3000


@dataclass(frozen=True, slots=True)
class Split:
    """Decoded images of one folder with labels and names relative to the data set's root."""

    images: Bytes  # (N, 32, 32, 3)
    labels: Ints  # (N,)
    names: tuple[str, ...]


STANDARD = Counts()
_POOLS: dict[str, Pool] = {"train": "calibration", "val": "evaluation"}


def generate(out: Path, *, seed: int = 0, counts: Counts = STANDARD, progress: Progress | None = None) -> Path:
    """Return `out` after writing the data set there; a complete one is reused.

    Safe when several processes ask for one folder: each builds a copy beside it; the first to finish wins.
    """
    return build_once(
        out,
        write=lambda root: _write(root, seed, counts, progress),
        check=lambda root: check(root, seed=seed, counts=counts),
    )


def check(root: Path, *, seed: int = 0, counts: Counts = STANDARD) -> None:
    """Raise DataError unless the manifest in `root` describes the data set asked for; images are not read."""
    compare(read_manifest(root), _expected(seed, counts), root)


def read_split(root: Path, split: str, *, limit: int | None = None) -> Split:
    """Return the decoded images of `train` or `val`, at most `limit`, in the order of their names within the split."""
    files = sorted((root / split).glob("*/*.JPEG"), key=lambda path: path.name)[:limit]
    labels = np.array([CLASS_DIRECTORIES.index(path.parent.name) for path in files], dtype=np.int64)
    images = np.stack([decode(path.read_bytes()) for path in files])
    return Split(images, labels, tuple(path.relative_to(root).as_posix() for path in files))


def calibration_lists(*, counts: Counts = STANDARD) -> dict[str, list[str]]:
    """Return, per seed, all names of `train/` in a random order: the first 32 are the 32-image set, and so on."""
    names = [name for name, _ in _names("train", counts.train)]
    orders = {seed: np.random.Generator(np.random.PCG64(seed)).permutation(len(names)) for seed in CALIBRATION_SEEDS}
    return {str(seed): [names[index] for index in order] for seed, order in orders.items()}


def write_calibration_lists(path: Path = CALIBRATION_LISTS) -> None:
    """Write the published calibration lists."""
    path.write_text(json.dumps({"schema": SCHEMA, "lists": calibration_lists()}, indent=0) + "\n", encoding="utf-8")


def fingerprint(splits: list[Split]) -> str:
    """Return the sha256 over names, labels and decoded pixels."""
    digest = hashlib.sha256()
    for split in splits:
        for name, label, image in zip(split.names, split.labels, split.images, strict=True):
            digest.update(f"{name}\0{label}\0".encode())
            digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _expected(seed: int, counts: Counts) -> dict[str, Any]:
    expected: dict[str, Any] = {"schema": SCHEMA, "seed": seed, "counts": asdict(counts)}
    if seed == 0 and counts == STANDARD:
        expected["fingerprint"] = FINGERPRINT
    return expected


def _write(root: Path, seed: int, counts: Counts, progress: Progress | None) -> dict[str, Any]:
    splits = []
    done = 0
    for index, (split, count) in enumerate(asdict(counts).items()):
        names = _names(split, count)
        rows = _balanced_rows(_POOLS[split], np.array([label for _, label in names]))
        composites = compose(_POOLS[split], rows, np.random.Generator(np.random.PCG64([seed, index])), side=SIDE)
        for directory in CLASS_DIRECTORIES:
            (root / split / directory).mkdir(parents=True, exist_ok=True)
        decoded = np.empty_like(composites.images)
        for number, ((name, _), image) in enumerate(zip(names, composites.images, strict=True)):
            content = encode(image)
            (root / name).write_bytes(content)
            decoded[number] = decode(content)
            done += 1
            if progress is not None:
                progress(done, counts.train + counts.val)
        splits.append(Split(decoded, composites.labels, tuple(name for name, _ in names)))
    manifest = {**_expected(seed, counts), "fingerprint": fingerprint(splits)}
    write_manifest(root, manifest)
    return manifest


def _names(split: str, count: int) -> list[tuple[str, int]]:
    """Return relative names and labels; classes take turns, so any number of images is balanced."""
    labels = [index % CLASSES for index in range(count)]
    return [(f"{split}/{CLASS_DIRECTORIES[label]}/mini_{split}_{i:08d}.JPEG", label) for i, label in enumerate(labels)]


def _balanced_rows(pool: Pool, labels: Ints) -> Ints:
    """Return a row of the pool for each label, using every digit of a class before one comes again."""
    per_class = DIGITS_PER_CLASS[pool]
    seen = np.zeros(CLASSES, dtype=np.int64)
    rows = np.empty(len(labels), dtype=np.int64)
    for index, label in enumerate(labels):
        rows[index] = label * per_class + seen[label] % per_class
        seen[label] += 1
    return rows


def encode(image: Bytes) -> bytes:
    """Return the image as the content of a JPEG file: quality 95, colours at full resolution."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def decode(content: bytes) -> Bytes:
    """Return the pixels (H, W, 3) of an image file's content."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))
