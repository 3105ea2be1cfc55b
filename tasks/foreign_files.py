"""Files that are not what their names say: what downloads, version control and file managers leave behind."""

from __future__ import annotations

import os
from pathlib import Path

from vitptq.bench.errors import BadInput, Missing

_HEAD_BYTES = 512
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGE_STARTS = (b"<!doctype html", b"<html", b"<?xml")
_SYSTEM_NAMES = frozenset(
    {"@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found", "system volume information", "thumbs.db"}
)


def is_system_name(name: str) -> bool:
    """Return whether a file or folder of this name belongs to an operating system, not to a data set.

    >>> [name for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "._x.jpg", "n01440764") if is_system_name(name)]
    ['.ipynb_checkpoints', '@eaDir', '__MACOSX', '._x.jpg']
    """
    return name.startswith(".") or name.casefold() in _SYSTEM_NAMES


def disguise(path: Path) -> str | None:
    """Say what is in place of a file: a dangling link, a git-lfs pointer, a web page, nothing; None where it may do."""
    if path.is_symlink() and not path.exists():
        return f"a link to {path.readlink()}, which is not there"
    if path.is_dir():
        return "a folder"
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        return f"a file that cannot be read ({error.strerror or error})"
    if not head:
        return "an empty file"
    if head.startswith(_LFS_POINTER):
        return "a git-lfs pointer (run git lfs pull where it comes from)"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return "a web page, saved in place of the download" if start.startswith(_PAGE_STARTS) else None


def refuse_disguised(path: Path, step: str) -> None:
    """Raise Missing or BadInput where something else is in the place of `path`; `step` says what to do about it."""
    found = disguise(path)
    if found is not None:
        raise (BadInput if path.exists() else Missing)(f"{path} is {found}: {step}")


def stat_of(path: Path) -> os.stat_result:
    """Return the file's state; Missing names one that is not there, and a link that leads nowhere."""
    try:
        return path.stat()
    except OSError as error:
        found = disguise(path) if path.is_symlink() else f"not there ({error.strerror or error})"
        raise Missing(f"{path} is {found}; copy or unpack this file again") from error
