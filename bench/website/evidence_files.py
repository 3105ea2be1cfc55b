"""The evidence beside the pages where it is what its record says: the same files, under a second name if possible."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from vitptq.bench.board.board import Board
from vitptq.bench.errors import BadInput
from vitptq.bench.files import regular_bytes
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.evidence_file import LARGEST_FILE
from vitptq.bench.results.folders import Folders
from vitptq.bench.results.record import Record
from vitptq.bench.spread import spread


def publish_evidence(board: Board, folders: Folders, folder: Path) -> dict[str, str]:
    """Put the evidence files that match their records into the site; return by record id what a page says of each."""
    records = [record for row in board.rows for record in row.records if record.evidence is not None]
    target = folder / "evidence"
    target.mkdir()
    found = spread(partial(_publish_one, folders, target), records).results()
    verdicts = {record.id: verdict for record, verdict in zip(records, found, strict=True)}
    if not any(target.iterdir()):
        target.rmdir()
    return verdicts


def _publish_one(folders: Folders, target: Path, record: Record) -> str:
    assert record.evidence is not None
    name = record.evidence.file
    # The name comes from a record that anyone may have written: it must not lead out of the folder.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}", name):
        return "missing"
    source = folders.store_of(record).evidence_dir / name
    try:
        content = regular_bytes(source, "evidence", LARGEST_FILE)
    except BadInput:  # gone, a folder, a pipe, not readable
        return "missing"
    if sha256(content) != record.evidence.sha256:
        return "differs"
    if not _linked(source, target / name):
        (target / name).write_bytes(content)
    return "matches"


def _linked(source: Path, target: Path) -> bool:
    """Give the file a second name; tell whether that worked, which it does not across file systems."""
    with suppress(OSError):
        os.link(source, target, follow_symlinks=False)
        return target.is_file() and not target.is_symlink()
    return False
