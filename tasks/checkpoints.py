"""Checkpoint files: their hashes, and what an error says that came from reading one."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from vitptq.bench.errors import Missing


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read once per process while it does not change; an absent one is Missing."""
    if not path.is_file():
        raise Missing(f"{path} is not there")
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: Path, _size: int, _mtime: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def first_problem(error: BaseException) -> str:
    """Return the first wrong key of torch's list of all, else the error's first line."""
    match = re.search(r'(Missing|Unexpected) key\(s\)[^"]*"([^"]+)"|size mismatch for ([^:]+): (.+)', str(error))
    if match is None:
        return f"{type(error).__name__}: {first_line(error)}"
    if match[3]:
        return f"{match[3]} has another shape ({match[4].strip()})"
    return f"{match[1].lower()} key {match[2]}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
