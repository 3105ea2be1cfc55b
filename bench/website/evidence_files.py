"""The evidence beside the pages: copied where it is what its record says."""

from __future__ import annotations

import re
from pathlib import Path

from vitptq.bench.board.board import Board
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.record import Record


def copy_evidence(board: Board, source: Path, folder: Path) -> dict[str, str]:
    """Copy the evidence files that match their records; return by record id what a page says of the file."""
    verdicts = {}
    for row in board.rows:
        for record in row.records:
            if record.evidence is not None:
                verdicts[record.id] = _copy_one(record, source, folder / "evidence")
    return verdicts


def _copy_one(record: Record, source: Path, target: Path) -> str:
    assert record.evidence is not None
    name = record.evidence.file
    # The name comes from a record that anyone may have written: it must not lead out of the folder.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) or not (source / name).is_file():
        return "missing"
    content = (source / name).read_bytes()
    if sha256(content) != record.evidence.sha256:
        return "differs"
    target.mkdir(exist_ok=True)
    (target / name).write_bytes(content)
    return "matches"
