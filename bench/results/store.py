"""The results folder: one immutable JSON per cell, its evidence beside it; safe to share, kill and merge by copying.

    results/records/<id>.json           what was measured
    results/evidence/<id>.npz           per-image results, from which the scores are recomputed
    results/evidence/<id>.<name>.npz    images that the method made, or what opened a float gate
    results/claims/                     published numbers with sources
    results/.work/<id>/                 what a killed quantisation goes on from; gone once the cell has a score

A file appears whole or not at all: it is written under a temporary name and renamed. The record is written last, so a
record always has its evidence.
"""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout
from numpy.typing import NDArray

from vitptq.bench.errors import BadInput, Missing, brief
from vitptq.bench.files import regular_bytes, remove, shown, write_atomically
from vitptq.bench.results.cell import Cell, sha256
from vitptq.bench.results.evidence_file import LARGEST_FILE, read_arrays
from vitptq.bench.results.record import EvidenceRef, Record
from vitptq.bench.results.record_file import read_record
from vitptq.bench.spread import without_collections

LEFT_OVER_S = 24 * 3600


class Store:
    """Reads and writes one results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records_dir = root / "records"
        self.evidence_dir = root / "evidence"
        self.locks_dir = root / ".locks"
        self._work_dir = root / ".work"

    def record(self, cell: Cell) -> Record | None:
        """Return the record of `cell`, or None where it has not been measured; BadInput where it cannot be read."""
        path = self._record_path(cell.id)
        if not path.is_symlink() and not _exists(path):
            return None
        # a run that was killed on a file system without hard links may have taken the name and no more
        return None if path.is_file() and not path.stat().st_size else read_record(path)

    def of(self, cells: Iterable[Cell]) -> tuple[dict[str, Record], dict[str, str]]:
        """Return the records of these cells by id, and one sentence by id for each that is there and cannot be read.

        They come without their audits, so that thousands of them fit into memory.
        """
        records, unreadable = {}, {}
        for cell in cells:
            try:
                record = self.record(cell)
            except BadInput as error:
                unreadable[cell.id] = str(error)
                continue
            if record is not None:
                records[cell.id] = record.model_copy(update={"audit": None})
        return records, unreadable

    def records(self) -> list[Record]:
        """Return every record, ordered by id; one that cannot be read is an error."""
        return [read_record(path) for path in self._paths()]

    def readable(self) -> list[Record]:
        """Return the records that can be read, ordered by id; `problems()` tells about the others."""
        return self.all()[0]

    def problems(self) -> list[str]:
        """Return one sentence per record that cannot be read."""
        return self.all()[1]

    def all(self, *, audits: bool = True) -> tuple[list[Record], list[str]]:
        """Return the records that can be read, ordered by id, and one sentence for each of the others.

        Without `audits`, which are most of a record, thousands of them fit into memory.
        """
        records, problems = [], []
        with without_collections():
            for path in self._paths():
                try:
                    record = read_record(path)
                    records.append(record if audits else record.model_copy(update={"audit": None}))
                except BadInput as error:
                    problems.append(str(error))
        return records, problems

    def filled(self) -> bool:
        """Tell whether there is any record."""
        return bool(self._paths())

    def require(self) -> None:
        """Raise where this is no results folder with at least one record in it, so that nothing is said of nothing."""
        if not _is_folder(self.root):
            what = "does not exist" if not _exists(self.root) else "is no folder"
            raise Missing(
                f"results folder {shown(self.root)} {what}; name one with --results, or measure with vitptq run"
            )
        if not self._paths():
            raise Missing(
                f"results folder {shown(self.root)} holds no record (none in {shown(self.records_dir)}); "
                "name another with --results, or measure with vitptq run"
            )

    def _paths(self) -> list[Path]:
        try:
            return sorted(path for path in self.records_dir.glob("*.json") if not path.name.startswith("."))
        except OSError as error:
            raise BadInput(f"results folder {shown(self.root)} cannot be read: {error.strerror}") from None

    def add(self, record: Record) -> None:
        """Write a record. Only one that does not count may be replaced, by a later attempt."""
        path = self._record_path(record.id)
        data = (record.model_dump_json() + "\n").encode()
        earlier = self.record(record.cell)
        if earlier is not None and not earlier.counts:
            write_atomically(path, data)
            return
        try:
            write_atomically(path, data, replace=False)
        except FileExistsError:
            text = f"cell {record.id[:12]} already has a record; records are immutable ({path})"
            raise BadInput(text) from None

    def probe(self) -> None:
        """Raise BadInput where nothing can be kept here: asked before hours of measuring, not after."""
        for folder in (self.records_dir, self.evidence_dir, self.locks_dir, self._work_dir):
            _make(folder)
            path = folder / f".probe-{uuid.uuid4().hex}"
            write_atomically(path, b"", replace=False)
            remove(path)

    def sweep(self) -> None:
        """Remove the temporary files that killed runs left; young ones may belong to a run that goes on."""
        for folder in (self.records_dir, self.evidence_dir):
            for path in folder.glob(".*.tmp"):
                with suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > LEFT_OVER_S:
                        path.unlink()

    def add_evidence(self, stem: str, arrays: Mapping[str, NDArray[Any]]) -> EvidenceRef:
        """Write evidence, compressed, under a cell's id (or a name that begins with it), and return its reference."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
        data = buffer.getvalue()
        name = f"{stem}.npz"
        write_atomically(self.evidence_dir / name, data)
        return EvidenceRef(file=name, sha256=sha256(data), bytes=len(data))

    def evidence(self, ref: EvidenceRef) -> dict[str, NDArray[Any]]:
        """Read evidence back, after checking that its bytes are the recorded ones."""
        path = self.evidence_dir / ref.file
        what = f"evidence {shown(path)}"
        if not _is_plain_name(ref.file):
            raise BadInput(f"{what} is not a file name of the evidence folder; only names of at most 255 bytes are")
        if not path.exists() and not path.is_symlink():
            raise Missing(f"{what} is missing; copy it from where the record was made, or measure the cell again")
        data = regular_bytes(path, what, LARGEST_FILE)
        if len(data) != ref.bytes:
            raise BadInput(f"{what} has {len(data)} bytes, its record says {ref.bytes}")
        if sha256(data) != ref.sha256:
            raise BadInput(f"{what} has sha256 {sha256(data)[:12]}..., its record says {brief(ref.sha256[:12])}...")
        return read_arrays(data, what)

    @contextmanager
    def claimed(self, cell: Cell) -> Iterator[bool]:
        """Hold a cell while working on it; yield False where another process holds it.

        Only a courtesy that saves double work: results are right without it. The operating system releases the lock
        when the holder dies, however it dies.
        """
        _make(self.locks_dir)
        lock = _locked(self.locks_dir / f"{cell.id}.lock")
        if lock is None and self._can_lock():
            yield False
            return
        try:
            yield True
        finally:
            if lock is not None:
                lock.release()

    def _can_lock(self) -> bool:
        """Tell whether this file system has locks at all: some in user space refuse every one."""
        path = self.locks_dir / f".probe-{uuid.uuid4().hex}"
        lock = _locked(path)
        if lock is not None:
            lock.release()
        remove(path)
        return lock is not None

    def work_dir(self, cell: Cell) -> Path:
        """Return the folder in which a method may keep the state of an unfinished cell."""
        return self._work_dir / cell.id

    def _record_path(self, cell_id: str) -> Path:
        return self.records_dir / f"{cell_id}.json"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"results cannot be kept in {shown(folder.parent)}: {error.strerror or error}; name another with --results"
        ) from None


def _locked(path: Path) -> BaseFileLock | None:
    """Return the lock on `path`, held; None where another holds it, or there are no locks."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, NotImplementedError):
        return None
    return lock


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long
        return False


def _is_folder(path: Path) -> bool:
    return _exists(path) and path.is_dir()


def _is_plain_name(name: str) -> bool:
    return name == Path(name).name and name not in ("", ".", "..") and "\0" not in name and len(name.encode()) <= 255
