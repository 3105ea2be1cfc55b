"""Two methods on the same images and the same calibration draws: how far apart are they?

Scores of the same images are alike for every method, so the difference of two scores is known far better than each
score. Images and draws are both samples, so with several draws

    variance = variance over images of the difference averaged over the draws + variance of the differences by draw / S

with Welch and Satterthwaite's degrees of freedom; the second part may be pooled over methods (`seed_spread`). The first
is that of a mean over images, or of paired resamples (`image_noise`).

One draw covers the images only. Where each image is right or wrong, that is McNemar's exact test: given the images that
exactly one method has right, is either method right on half of them? The interval is the wider of that test's own and
Student's over the images, on either side.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, betaincinv, stdtr  # type: ignore[import-untyped]

from vitptq.bench.board.image_noise import ImageNoise
from vitptq.bench.board.seed_spread import SeedSpread
from vitptq.bench.board.statistics import LEVEL, Interval, Source, student

ONE_DRAW = "one calibration draw"


@dataclass(frozen=True, slots=True)
class Draw:
    """One method's score with one calibration draw, in percent, and how it varies with the images."""

    score: float
    noise: ImageNoise


@dataclass(frozen=True, slots=True)
class Difference(Interval):
    """One method's score less another's, in points, with its 95 % interval and the p-value of no difference."""

    points: float
    seeds: int
    p: float
    exact: bool = False
    """Tested by McNemar's exact test."""

    @property
    def verdict(self) -> str:
        """Say what this test, read alone, allows to say."""
        return verdict(self.points, self.p)


def verdict(points: float, p: float) -> str:
    """Say better, worse or not separated.

    >>> verdict(0.13, 0.125), verdict(-0.5, 0.01)
    ('not separated', 'worse')
    """
    if p >= 1 - LEVEL or points == 0:
        return "not separated"
    return "better" if points > 0 else "worse"


def difference(
    ours: Mapping[int, Draw], theirs: Mapping[int, Draw], spread: SeedSpread | None = None
) -> Difference | None:
    """Return the difference of two methods over the seeds that both have.

    None without a common seed, and where the two do not tell of the same images. `spread` is pooled over more methods.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    if not pairs or not all(pairs[0][0].noise.matches(draw.noise) for pair in pairs for draw in pair):
        return None
    if len(pairs) == 1 and pairs[0][0].noise.per_image:
        return _mcnemar(*pairs[0])
    return _by_variance(pairs, spread)


def _mcnemar(ours: Draw, theirs: Draw) -> Difference:
    won = int(np.count_nonzero(ours.noise.values & ~theirs.noise.values))
    lost = int(np.count_nonzero(theirs.noise.values & ~ours.noise.values))
    images, apart = len(ours.noise.values), won + lost
    p = min(1.0, 2 * float(bdtr(min(won, lost), apart, 0.5))) if apart else 1.0
    exact = [100 * apart / images * (2 * share - 1) for share in _exact_share(won, lost)]
    points = 100 * (won - lost) / images
    # The test takes the number of images on which the two differ as given; that it varies, too, is Student's part.
    half = student(max(images - 1, 1)) * math.sqrt(ours.noise.variance_of(ours.noise.percent - theirs.noise.percent))
    return Difference(min(exact[0], points - half), max(exact[1], points + half), "images", points, 1, p, exact=True)


def _exact_share(won: int, lost: int) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of the share that was won."""
    tail = (1 - LEVEL) / 2
    low = float(betaincinv(won, lost + 1, tail)) if won else 0.0
    return low, float(betaincinv(won + 1, lost, 1 - tail)) if lost else 1.0


def _by_variance(pairs: Sequence[tuple[Draw, Draw]], spread: SeedSpread | None) -> Difference:
    """Return the difference with Student's interval of the sum of the two variances."""
    noise = pairs[0][0].noise
    values = np.mean([ours.noise.percent - theirs.noise.percent for ours, theirs in pairs], axis=0)
    by_seed = [ours.score - theirs.score for ours, theirs in pairs]
    parts = [(noise.variance_of(values), max(len(values) - 1, 1) if noise.per_image else math.inf)]
    if len(pairs) > 1:
        own = statistics.variance(by_seed), len(pairs) - 1
        variance, freedom = (2 * spread.variance, spread.freedom) if spread else own
        parts.append((variance / len(pairs), freedom))
    covers: Source = "images and seeds" if len(pairs) > 1 else "images"
    points = statistics.fmean(by_seed)
    half, p = _half_width_and_p(points, parts)
    return Difference(points - half, points + half, covers, points, len(pairs), p)


def _half_width_and_p(points: float, parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return half of Student's interval for a sum of variances with their degrees of freedom, and the p-value."""
    variance = sum(value for value, _ in parts)
    if variance == 0:
        return 0.0, 1.0 if points == 0 else 0.0
    inverse = sum(value**2 / degrees for value, degrees in parts) / variance**2
    freedom = 1 / inverse if inverse else 1e9  # a table of a billion degrees is the normal distribution
    error = math.sqrt(variance)
    return student(freedom) * error, 2 * float(stdtr(freedom, -abs(points) / error))
