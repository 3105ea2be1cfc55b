"""Image noise read from the evidence in a results folder, kept beside it so that it is computed once.

    results/.cache/image_noise/<sha256 of the evidence>.npz      may be deleted at any time

An entry is valid for one state of the code that made it and one data version; any other is computed again and replaced.
A board whose entries are all valid loads no task.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vitptq
from vitptq.bench import registry
from vitptq.bench.board import image_noise
from vitptq.bench.board.image_noise import RESAMPLES, ImageNoise
from vitptq.bench.errors import BadInput, VitptqError, brief
from vitptq.bench.files import write_atomically
from vitptq.bench.results.folders import Folders
from vitptq.bench.results.record import EvidenceRef, Record
from vitptq.bench.results.store import Store

PACKED, RESAMPLED, MADE_BY = "right:", "resampled:", "made_by"
RECENT = 256
"""Records whose noise stays in memory: each is asked for several times in a row."""
EVALUATORS = ("numpy", "pycocotools")


class PlacedNoise:
    """The image noise of records that lie in several folders."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._noises = {store.root: StoredNoise(store) for store in folders.stores}

    @property
    def left_out(self) -> list[str]:
        """Return one sentence for each record asked for so far whose evidence cannot be used."""
        return [sentence for noise in self._noises.values() for sentence in noise.left_out]

    def of(self, record: Record) -> Mapping[str, ImageNoise]:
        """Return the noise of each score, from the folder that the record lies in."""
        return self._noises[self._folders.store_of(record).root].of(record)


class StoredNoise:
    """The image noise of a store's records."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.root / ".cache" / "image_noise"
        self._unusable: dict[str, str] = {}
        self._recent: dict[str, Mapping[str, ImageNoise]] = {}

    @property
    def left_out(self) -> list[str]:
        """Return one sentence for each record asked for so far whose evidence cannot be used."""
        return list(self._unusable.values())

    def of(self, record: Record) -> Mapping[str, ImageNoise]:
        """Return the noise of each score; nothing where the task or the evidence is not here, or cannot be read."""
        ref = record.evidence
        if ref is None:
            return {}
        if ref.sha256 in self._recent:
            return self._recent[ref.sha256]
        made_by = f"{code_version(registry.added_files())} {record.cell.task}/{record.cell.edition} {record.cell.data}"
        kept = _read(self._place(ref), made_by)
        found = self._measured(record, ref, made_by) if kept is None else kept
        self._remember(ref.sha256, found)
        return found

    def _remember(self, sha256: str, found: Mapping[str, ImageNoise]) -> None:
        if len(self._recent) == RECENT:
            del self._recent[next(iter(self._recent))]
        self._recent[sha256] = found

    def _measured(self, record: Record, ref: EvidenceRef, made_by: str) -> dict[str, ImageNoise]:
        if record.id in self._unusable:
            return {}
        try:
            found = self._told(record, ref)
        except Exception as error:  # noqa: BLE001  a task's own code on evidence of any origin
            why = str(error) if isinstance(error, VitptqError) else f"{type(error).__name__}: {brief(error)}"
            self._unusable[record.id] = f"{brief(record.cell.label(), 200)}: {why}"
            return {}
        with suppress(VitptqError, OSError):  # a folder that cannot be written to costs time only
            write_atomically(self._place(ref), _packed(found, made_by))
        return found

    def _told(self, record: Record, ref: EvidenceRef) -> dict[str, ImageNoise]:
        task = registry.task(record.cell.task, record.cell.edition)
        evidence = self._store.evidence(ref)
        images = task.count(evidence)
        if images != record.images:
            raise BadInput(f"the evidence covers {images} images, the record says {record.images}")
        return image_noise.measured(task, evidence, record.cell.data)

    def _place(self, ref: EvidenceRef) -> Path:
        name = ref.sha256 if ref.sha256.isalnum() else hashlib.sha256(ref.sha256.encode()).hexdigest()
        return self._folder / f"{name}.npz"


@cache
def code_version(added: tuple[Path, ...]) -> str:
    """Hash what decides on the noise: the tasks, this room's part of it, and the packages of tasks from elsewhere."""
    room = Path(vitptq.__file__).parent
    tasks = sorted((room / "tasks").resolve().rglob("*.py"))
    own = [Path(image_noise.__file__), Path(__file__)]
    digest = hashlib.sha256(str(RESAMPLES).encode())
    for path in (*tasks, *own, *added):
        digest.update(path.read_bytes())
    others = {point.dist.name for point in entry_points(group=registry.TASKS) if point.dist}
    for name in sorted({*EVALUATORS, *others}):
        with suppress(PackageNotFoundError):
            digest.update(f"{name} {version(name)}".encode())
    return digest.hexdigest()


def _packed(noises: Mapping[str, ImageNoise], made_by: str) -> bytes:
    arrays: dict[str, NDArray[Any]] = {MADE_BY: np.array(made_by)}
    for name, noise in noises.items():
        if noise.per_image:
            arrays[f"{PACKED}{len(noise.values)}:{name}"] = np.packbits(noise.values.astype(np.bool_))
        else:
            arrays[f"{RESAMPLED}{name}"] = noise.values
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _read(path: Path, made_by: str) -> dict[str, ImageNoise] | None:
    """Return what is kept, or None where there is nothing that this code made of this data."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            if str(arrays[MADE_BY]) != made_by:
                return None
            return dict(_entry(name, arrays[name]) for name in arrays.files if name != MADE_BY)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _entry(name: str, values: NDArray[Any]) -> tuple[str, ImageNoise]:
    if name.startswith(RESAMPLED):
        return name.removeprefix(RESAMPLED), ImageNoise(values)
    images, _, metric = name.removeprefix(PACKED).partition(":")
    return metric, ImageNoise(np.unpackbits(values, count=int(images)).astype(np.bool_))
