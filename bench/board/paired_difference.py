"""Two methods on the same images and the same calibration draws: how far apart are they?

Scores of the same images are alike for every method, so the difference of two scores is known far better than each
score. For each image the difference in being right (1, 0 or -1) is averaged over the seeds. Images and draws are both
samples, so

    variance = variance over images / n + variance of the differences by seed / S

with Welch and Satterthwaite's degrees of freedom. With one seed only the images are covered.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitptq.bench.board.statistics import Interval, Source, student

Right = NDArray[np.bool_]
"""Per evaluation image, whether the prediction was right."""


@dataclass(frozen=True, slots=True)
class Difference(Interval):
    """One method's score less another's, in points, with its interval."""

    points: float
    seeds: int
    images: int

    @property
    def verdict(self) -> str:
        """Say what the interval allows to say: better, worse, or not separated."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not separated"


def difference(ours: Mapping[int, Right], theirs: Mapping[int, Right]) -> Difference | None:
    """Return the difference of two methods over the seeds that both have, each with the same images; None without any.

    Raises ValueError where the numbers of images differ.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    if len({len(right) for seed in seeds for right in (ours[seed], theirs[seed])}) != 1:
        raise ValueError("the records cover different numbers of images")
    by_seed = 100.0 * np.stack([ours[seed].astype(np.float64) - theirs[seed] for seed in seeds])
    points = float(by_seed.mean())
    images = by_seed.shape[1]
    parts = [(float(by_seed.mean(axis=0).var(ddof=1)) / images, images - 1)]
    if len(seeds) > 1:
        parts.append((statistics.variance(by_seed.mean(axis=1).tolist()) / len(seeds), len(seeds) - 1))
    half = _half_width(parts)
    covers: Source = "images and seeds" if len(seeds) > 1 else "images"
    return Difference(points - half, points + half, covers, points, len(seeds), images)


def _half_width(parts: Sequence[tuple[float, int]]) -> float:
    """Return half of Student's interval for a sum of variances with their degrees of freedom."""
    variance = sum(value for value, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(value**2 / degrees for value, degrees in parts)
    return student(freedom) * math.sqrt(variance)
