"""Judge a folder of records that somebody else measured: one sentence for each reason to refuse it.

    FOLDER/records/<id>.json      official, readable, measured with the adapters of this clone
    FOLDER/evidence/<id>.npz      of these records, and nothing else

`verify` recomputes what the records say; this looks at the folder around them and at where they come from.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from vitptq.bench import registry
from vitptq.bench.errors import BadInput, UnknownName, brief
from vitptq.bench.files import shown
from vitptq.bench.results.record import EvidenceRef, Record
from vitptq.bench.results.store import Store
from vitptq.bench.results.verify import verify
from vitptq.bench.source_hash import source_hash

LARGEST_RECORD = 2 * 2**20
LARGEST_EVIDENCE = 50 * 2**20
"""Bytes. Detections and masks of 5,000 images are the largest; forges refuse files of twice that."""
LARGEST_WHOLE = 2**30
LARGEST = {"records": LARGEST_RECORD, "evidence": LARGEST_EVIDENCE}
NAMES = {"records": r"[0-9a-f]{64}\.json", "evidence": r"[0-9a-f]{64}(\.[A-Za-z0-9_-]{1,60})?\.npz"}
CLONE = Path(__file__).resolve().parents[2]


def problems(root: Path, committed: Store) -> Iterator[str]:
    """Yield every reason to refuse the folder; `committed` holds the records that there are already.

    Raises Missing where it holds no record.
    """
    unsafe = list(_file_problems(root))
    yield from unsafe
    if unsafe:  # nothing is read of a folder with links or giants in it
        return
    store = Store(root)
    store.require()
    records, unreadable = store.all()
    yield from unreadable
    yield from _unclaimed_evidence(store, records)
    for record in records:
        yield from (f"{_name(record)}: {problem}" for problem in _origin_problems(record, committed))
    for verdict in verify(store, records):
        yield from (f"{_name(verdict.record)}: {problem}" for problem in verdict.problems)


def _file_problems(root: Path) -> Iterator[str]:
    """Check that there are only files of the right names and sizes, whatever is in them."""
    whole = 0
    for folder, folders, files in os.walk(root):
        place = Path(folder).relative_to(root).as_posix()
        for name in sorted(folders) if place == "." else ():
            if name not in LARGEST:
                yield f"{shown(root / name)} does not belong here: a submission has the folders records and evidence"
        for name in sorted([*files, *(folders if place != "." else ())]):
            found = Path(folder, name).lstat()
            whole += found.st_size
            yield from _one_file_problems(place, name, found)
        folders[:] = [name for name in folders if place == "." and name in LARGEST]
    if whole > LARGEST_WHOLE:
        yield f"the folder has {whole} bytes, at most {LARGEST_WHOLE} are taken at once: split it"


def _one_file_problems(place: str, name: str, found: os.stat_result) -> Iterator[str]:
    what = brief(name if place == "." else f"{place}/{name}", 200)
    if place not in LARGEST or not re.fullmatch(NAMES[place], name):
        yield f"{what} does not belong here: a submission is records/<id>.json and evidence/<id>.npz alone"
    elif not stat.S_ISREG(found.st_mode):
        yield f"{what} is no regular file: put the file itself there, not a link or a folder"
    elif found.st_size > LARGEST[place]:
        yield f"{what} has {found.st_size} bytes, at most {LARGEST[place]} are taken"


def _unclaimed_evidence(store: Store, records: Sequence[Record]) -> Iterator[str]:
    claimed = {ref.file for record in records for ref in _files_of(record)}
    present = sorted(path.name for path in store.evidence_dir.iterdir()) if store.evidence_dir.is_dir() else []
    yield from (f"evidence/{name} belongs to no record here: remove it" for name in present if name not in claimed)


def _files_of(record: Record) -> list[EvidenceRef]:
    refs = [record.evidence, record.gate.evidence if record.gate else None, *record.details.method.images.values()]
    return [ref for ref in refs if ref is not None]


def _origin_problems(record: Record, committed: Store) -> Iterator[str]:
    why = record.provenance.why_unofficial
    if why:
        yield f"it is not official: {why}; measure it again from a clean clone, with adapters of the clone"
    elif not known_commit(record.provenance.commit):
        yield (
            f"commit {brief(record.provenance.commit[:12])} is not in the history of this clone: "
            "measure at a commit of the main branch"
        )
    if record.gate is not None and not record.gate.passed:
        yield f"its float gate is shut ({brief(record.gate.reason, 200)}): its score would not count"
    yield from _adapter_problems(record)
    if not record.cell.is_float and _counts_already(record, committed):
        yield "its cell has a committed record already, and records are immutable: leave it out"


def _adapter_problems(record: Record) -> Iterator[str]:
    try:
        method = registry.method(record.cell.method) if not record.cell.method.endswith(".py") else None
    except UnknownName:
        method = None
    if method is None:
        yield f"method {brief(record.cell.method)} is not one of this clone: send its adapter first"
    elif source_hash(method) != record.cell.source:
        yield f"method {method.name} is another here than the one that was measured: measure it again at this commit"


def _counts_already(record: Record, committed: Store) -> bool:
    try:
        there = committed.record(record.cell)
    except BadInput:
        return False
    return there is not None and there.counts


@cache
def known_commit(commit: str) -> bool:
    """Tell whether a commit is in the history of this clone."""
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit):
        return False
    asked = ["git", "-C", str(CLONE), "merge-base", "--is-ancestor", commit, "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _name(record: Record) -> str:
    return f"{brief(record.cell.label(), 200)} ({record.id[:12]})"
