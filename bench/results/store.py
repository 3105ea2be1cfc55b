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
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import ValidationError

from vitptq.bench.errors import BadInput, Missing
from vitptq.bench.files import write_atomically
from vitptq.bench.results.cell import Cell, sha256
from vitptq.bench.results.record import EvidenceRef, Record

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
        """Return the record of `cell`, or None where it has not been measured."""
        path = self._record_path(cell.id)
        return self._read(path) if path.exists() else None

    def records(self) -> list[Record]:
        """Return every record, ordered by id; one that cannot be read is an error."""
        return [self._read(path) for path in self._paths()]

    def readable(self) -> list[Record]:
        """Return the records that can be read, ordered by id; `problems()` tells about the others."""
        return [item for item in self._tried() if isinstance(item, Record)]

    def problems(self) -> list[str]:
        """Return one sentence per record that cannot be read."""
        return [str(item) for item in self._tried() if isinstance(item, BadInput)]

    def _tried(self) -> Iterator[Record | BadInput]:
        for path in self._paths():
            try:
                yield self._read(path)
            except BadInput as error:
                yield error

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.records_dir.glob("*.json") if not path.name.startswith("."))

    def _read(self, path: Path) -> Record:
        try:
            record = Record.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise BadInput(
                f"record {path} does not fit the schema ({where}: {first['msg']}); "
                "restore it from a copy, or delete it and run its suite again"
            ) from None
        if record.id != path.stem:
            raise BadInput(
                f"record {path} holds cell {record.id[:12]}...; a record's file is named after its cell: rename it"
            )
        return record

    def add(self, record: Record) -> None:
        """Write a record. Only a failed one may be replaced (by a later attempt)."""
        path = self._record_path(record.id)
        data = (record.model_dump_json(indent=1) + "\n").encode()
        if path.exists() and self._read(path).status == "failed":
            write_atomically(path, data)
            return
        try:
            write_atomically(path, data, replace=False)
        except FileExistsError:
            text = f"cell {record.id[:12]} already has a record; records are immutable ({path})"
            raise BadInput(text) from None

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
        if path.parent != self.evidence_dir or not path.exists():
            raise Missing(
                f"evidence {path} is missing; copy it from where the record was made, or measure the cell again"
            )
        data = path.read_bytes()
        if sha256(data) != ref.sha256:
            raise BadInput(f"evidence {path} has sha256 {sha256(data)[:12]}..., its record says {ref.sha256[:12]}...")
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (ValueError, zipfile.BadZipFile) as error:
            raise BadInput(f"evidence {path} cannot be read: {error}") from None

    @contextmanager
    def claimed(self, cell: Cell) -> Iterator[bool]:
        """Hold a cell while working on it; yield False where another process holds it.

        Only a courtesy that saves double work: results are right without it. The operating system releases the lock
        when the holder dies, however it dies.
        """
        self.locks_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.locks_dir / f"{cell.id}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def work_dir(self, cell: Cell) -> Path:
        """Return the folder in which a method may keep the state of an unfinished cell."""
        return self._work_dir / cell.id

    def _record_path(self, cell_id: str) -> Path:
        return self.records_dir / f"{cell_id}.json"
