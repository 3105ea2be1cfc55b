"""The evidence beside the pages: copied where it is what its record says."""

from __future__ import annotations

import re
from pathlib import Path

from vitptq.bench.board.board import Board
from vitptq.bench.errors import BadInput
from vitptq.bench.files import regular_bytes
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.evidence_file import LARGEST_FILE
from vitptq.bench.results.folders import Folders
from vitptq.bench.results.record import Record


def copy_evidence(board: Board, folders: Folders, folder: Path) -> dict[str, str]:
    """Copy the evidence files that match their records; return by record id what a page says of the file."""
    verdicts = {}
    for row in board.rows:
        for record in row.records:
            if record.evidence is not None:
                verdicts[record.id] = _copy_one(record, folders.store_of(record).evidence_dir, folder / "evidence")
    return verdicts


def _copy_one(record: Record, source: Path, target: Path) -> str:
    assert record.evidence is not None
    name = record.evidence.file
    # The name comes from a record that anyone may have written: it must not lead out of the folder.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}", name):
        return "missing"
    try:
        content = regular_bytes(source / name, "evidence", LARGEST_FILE)
    except BadInput:  # gone, a folder, a pipe, not readable
        return "missing"
    if sha256(content) != record.evidence.sha256:
        return "differs"
    target.mkdir(exist_ok=True)
    (target / name).write_bytes(content)
    return "matches"
