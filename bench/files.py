"""Files that are either whole or absent, even after a power cut, on whatever file system results are kept."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from vitptq.bench.errors import BadInput, brief

NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EINVAL}
"""How file systems say that they have no hard links: S3 and SMB mounts, FAT, many in user space."""
NO_FOLDER_SYNC = NO_LINKS | {errno.EBADF, errno.EISDIR}


def write_atomically(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file that is either whole or absent, even after a power cut.

    With `replace=False` a file that is there already stays, and FileExistsError is raised. Where the file system has no
    hard links, a run that is killed between two calls can leave such a file empty: an empty file only holds the name.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            _give_name(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, FileExistsError) and error.filename2 == str(path):
            raise
        raise BadInput(
            f"cannot write {shown(path)}: {error.strerror or error}; free space or choose another folder"
        ) from error
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a file where it is and can be; one that stays is harmless, because temporary names are never read."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def regular_bytes(path: Path, what: str, largest: int) -> bytes:
    """Return a regular file's bytes: no folder, link to nothing, device or pipe, and at most `largest` of them."""
    mended = "restore it from a copy, or move it away and run its suite again"
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise BadInput(f"{what} is {kind}; move it away, only files belong there")
        if found.st_size > largest:
            raise BadInput(f"{what} has {found.st_size} bytes, at most {largest} are read; {mended}")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a ValueError: a name with a null byte
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        link = "a link to nothing" if path.is_symlink() and not path.exists() else reason
        raise BadInput(f"{what} cannot be read: {brief(link)}; {mended}") from None


def shown(path: Path) -> str:
    """Return a path for a sentence: whole where it is of a usual length, on one line."""
    return brief(path, 400)


def _give_name(temporary: Path, path: Path) -> None:
    """Rename without replacing: by a hard link, or by taking the name first where there are no links."""
    try:
        os.link(temporary, path)
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    try:
        path.open("xb").close()
    except FileExistsError:
        if path.stat().st_size:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(temporary), None, str(path)) from None
    temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, so that a record never outlives its evidence."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
