"""Where data sets and checkpoints are on this machine."""

from __future__ import annotations

import os
from pathlib import Path

STARTED_IN = Path.cwd()
"""What a relative path is relative to, wherever the process goes later."""


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
