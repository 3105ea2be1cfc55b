"""Write the embedded classification edition to disk: real JPEG files in ImageNet's folder layout.

`train/` holds the CALIBRATION pool: the images that a method may look at. The images that trained the weights come
from a third pool; `training/epochs.py` composes them on the fly and they are never written. `val/` holds the
evaluation pool. Class directory `n0000000D` is the digit D.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vitptq.tasks.mini.data.compose_digit import compose
from vitptq.tasks.mini.data.generated import SCHEMA, Counts, GeneratedData, Progress
from vitptq.tasks.mini.data.jpeg import decode, encode
from vitptq.tasks.mini.data.material import CLASSES, DIGITS_PER_CLASS, Bytes, Ints, Pool

SIDE = 32
CLASS_DIRECTORIES = tuple(f"n{label:08d}" for label in range(CLASSES))
POOLS: dict[str, Pool] = {"train": "calibration", "val": "evaluation"}


@dataclass(frozen=True, slots=True)
class Split:
    """Decoded images of one folder with labels and names relative to the data set's root."""

    images: Bytes  # (N, 32, 32, 3)
    labels: Ints  # (N,)
    names: tuple[str, ...]


def read_split(root: Path, split: str, *, limit: int | None = None) -> Split:
    """Return the decoded images of `train` or `val`, at most `limit`, in the order of their names within the split."""
    files = sorted((root / split).glob("*/*.JPEG"), key=lambda path: path.name)[:limit]
    labels = np.array([CLASS_DIRECTORIES.index(path.parent.name) for path in files], dtype=np.int64)
    images = np.stack([decode(path.read_bytes()) for path in files])
    return Split(images, labels, tuple(path.relative_to(root).as_posix() for path in files))


def write_calibration_lists(path: Path) -> None:
    """Write the calibration lists as they are published, one name per line."""
    content = {"schema": SCHEMA, "lists": DATA.calibration_lists()}
    path.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")


def fingerprint(splits: list[Split]) -> str:
    """Return the sha256 over names, labels and decoded pixels."""
    digest = hashlib.sha256()
    for split in splits:
        for name, label, image in zip(split.names, split.labels, split.images, strict=True):
            digest.update(f"{name}\0{label}\0".encode())
            digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _write(root: Path, seed: int, counts: Counts, progress: Progress | None) -> str:
    splits = []
    done = 0
    for index, (split, count) in enumerate(asdict(counts).items()):
        names = _names(split, count)
        rows = _balanced_rows(POOLS[split], np.array([label for _, label in names]))
        composites = compose(POOLS[split], rows, np.random.Generator(np.random.PCG64([seed, index])), side=SIDE)
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
    return fingerprint(splits)


def _names(split: str, count: int) -> list[tuple[str, int]]:
    """Return relative names and labels; classes take turns, so any number of images is balanced."""
    labels = [index % CLASSES for index in range(count)]
    return [(f"{split}/{CLASS_DIRECTORIES[label]}/mini_{split}_{i:08d}.JPEG", label) for i, label in enumerate(labels)]


def _training_names(count: int) -> list[str]:
    return [name for name, _ in _names("train", count)]


def _balanced_rows(pool: Pool, labels: Ints) -> Ints:
    """Return a row of the pool for each label, using every digit of a class before one comes again."""
    per_class = DIGITS_PER_CLASS[pool]
    seen = np.zeros(CLASSES, dtype=np.int64)
    rows = np.empty(len(labels), dtype=np.int64)
    for index, label in enumerate(labels):
        rows[index] = label * per_class + seen[label] % per_class
        seen[label] += 1
    return rows


DATA = GeneratedData(
    kind="classification",
    standard=Counts(train=1024, val=3000),
    fingerprint="0c12a243b06aee389e0e77f9fd9f1293516459ed211ba741d48a3208e2f54ff9",
    lists=Path(__file__).with_name("calibration.json"),
    write=_write,
    training_names=_training_names,
)
