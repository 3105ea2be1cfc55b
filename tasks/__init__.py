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


def checkpoint_root() -> Path:
    """Return the folder of downloaded checkpoints: `VITPTQ_CHECKPOINTS`, or `checkpoints` among the data sets."""
    named = os.environ.get("VITPTQ_CHECKPOINTS")
    return Path(named) if named else data_root() / "checkpoints"
