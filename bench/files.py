"""Files that are either whole or absent, even after a power cut."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from vitptq.bench.errors import BadInput


def write_atomically(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file that is either whole or absent, even after a power cut.

    With `replace=False` a file that is there already stays, and FileExistsError is raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise BadInput(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, so that a record never outlives its evidence."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
