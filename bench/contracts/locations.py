"""Where data sets, checkpoints and what commands keep for each other are on this machine."""

from __future__ import annotations

import os
from pathlib import Path

STARTED_IN = Path.cwd()
"""What a relative path is relative to, wherever the process goes later."""
OWN_CHECKPOINTS = "checkpoints.toml"
"""Describes checkpoints of one's own, in the folder of checkpoints."""
NO_CACHE = "VITPTQ_NO_CACHE"
"""Set to anything: no decoded image is kept on disk."""


def data_root() -> Path:
    """Return the folder that holds the data sets: `VITPTQ_DATA`, or `data` where the process was started."""
    return STARTED_IN / (os.environ.get("VITPTQ_DATA") or "data")


def checkpoint_root(named: Path | None = None, root: Path | None = None) -> Path:
    """Return the folder of downloaded checkpoints.

    It is `named`, else `checkpoints` in the folder `root` of the data sets; without both, what `VITPTQ_CHECKPOINTS`
    names, or `checkpoints` in `data_root()`.
    """
    if named is None and root is None:
        variable = os.environ.get("VITPTQ_CHECKPOINTS")
        named = STARTED_IN / variable if variable else None
    return named or (root or data_root()) / "checkpoints"


def cache_root() -> Path | None:
    """Return the folder of what may go at any time: VITPTQ_CACHE, or one in the user's cache; None without either."""
    named, cached, home = (os.environ.get(name) for name in ("VITPTQ_CACHE", "XDG_CACHE_HOME", "HOME"))
    if named:
        return STARTED_IN / named
    base = Path(cached) if cached else Path(home) / ".cache" if home else None
    return base / "vitptq" if base else None


def image_cache() -> Path | None:
    """Return the folder of decoded images; None where none are to be kept on disk."""
    root = None if os.environ.get(NO_CACHE) else cache_root()
    return root / "images" if root else None
