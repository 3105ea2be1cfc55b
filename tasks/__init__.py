"""The tasks: models, calibration data and evaluation. No task knows a method."""

from __future__ import annotations

import os
from pathlib import Path

HYBRID_FAMILIES = frozenset({"mobilevit", "mobilevitv2", "efficientformer", "efficientformerv2"})
"""Families that alternate convolutions and attention."""


def family_groups(family: str) -> tuple[str, ...]:
    """Return the wider families that `family` belongs to, as a model card declares them."""
    return ("hybrid",) if family in HYBRID_FAMILIES else ()


def data_root() -> Path:
    """Return the folder that holds the data sets: `VITPTQ_DATA`, or `data` in the working directory."""
    return Path(os.environ.get("VITPTQ_DATA") or "data")


def checkpoint_root(named: Path | None = None, root: Path | None = None) -> Path:
    """Return the folder of downloaded checkpoints.

    It is `named`, else `checkpoints` in the folder `root` of the data sets; without both, what `VITPTQ_CHECKPOINTS`
    names, or `checkpoints` in `data_root()`.
    """
    if named is None and root is None:
        variable = os.environ.get("VITPTQ_CHECKPOINTS")
        named = Path(variable) if variable else None
    return named or (root or data_root()) / "checkpoints"
