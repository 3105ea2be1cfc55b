"""How much scores vary with the calibration draw, pooled over the methods of one table where they vary alike.

Three draws tell little about the spread of one difference: two degrees of freedom, with which almost nothing separates
once several comparisons are made. If the methods spread alike, all of them together tell more: the scores are taken as
method + draw + noise, and the noise has (methods - 1) x (draws - 1) degrees of freedom.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc  # type: ignore[import-untyped]

FEWEST_METHODS = 3
ALIKE = 0.05
"""Bartlett's test: a p-value below says that the spreads differ."""


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """The variance of a score with the draw, in points squared, once the draws' common effect is taken out."""

    variance: float
    freedom: int
    methods: frozenset[str]
    """The rows that it is pooled over, by id."""

    def covers(self, *rows: str) -> bool:
        """Tell whether it speaks for a comparison of these rows."""
        return self.methods.issuperset(rows)


def pooled(scores: Mapping[str, Mapping[int, float]]) -> SeedSpread | None:
    """Return the spread of rows' scores by seed, pooled; None where it may not be pooled.

    Rows take part that have the seeds which most rows have, at least two of them, and that vary at all: a method
    without randomness has no spread to share.
    """
    varying = {row: found for row, found in scores.items() if len(set(found.values())) > 1}
    if not varying:
        return None
    (seeds, _), *_ = Counter(tuple(sorted(found)) for found in varying.values()).most_common(1)
    rows = sorted(row for row, found in varying.items() if tuple(sorted(found)) == seeds)
    table = np.array([[varying[row][seed] for seed in seeds] for row in rows])  # (rows, seeds)
    if len(rows) < FEWEST_METHODS or not _alike(table):
        return None
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    freedom = (len(rows) - 1) * (len(seeds) - 1)
    return SeedSpread(float((rest**2).sum()) / freedom, freedom, frozenset(rows))


def _alike(table: NDArray[np.float64]) -> bool:
    """Tell whether Bartlett's test leaves it open that the rows have one variance."""
    return bartlett(table.var(axis=1, ddof=1).tolist(), table.shape[1]) >= ALIKE


def bartlett(variances: Sequence[float], count: int) -> float:
    """Return the p-value of equal variances, each of `count` numbers."""
    freedom, groups = count - 1, len(variances)
    mean = math.fsum(variances) / groups
    statistic = freedom * (groups * math.log(mean) - math.fsum(map(math.log, variances)))
    correction = 1 + (groups + 1) / (3 * groups * freedom)
    return float(chdtrc(groups - 1, statistic / correction))
