"""What every format does with text and with several scores of one row."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from vitptq.bench.contracts.task import Metric

BETWEEN = " / "
"""Between the scores of one row, and between their titles."""


def plain(text: str) -> str:
    """Return text without control characters and line breaks: nothing that moves a cursor or hides its neighbour."""
    spaced = " ".join(text.split())
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in spaced)


def titles(metrics: Sequence[Metric]) -> str:
    """Return the titles of several metrics, as their scores are written: "Box AP / Mask AP"."""
    return BETWEEN.join(metric.title for metric in metrics)
