"""Intervals at 95 %: which images were drawn, and which calibration sets were.

The test images are a sample, so one top-1 score carries the Wilson interval of a proportion, and a score that is no
share of the images the spread over resampled image sets (`image_noise`). The calibration draw is a second source of
noise, so a mean over S seeds also carries Student's interval of a mean. The seeds are scored on the same images, so
averaging them does not shrink the first part: the two are added in quadrature, each side on its own.

    low  = mean - sqrt((mean - images_low)^2  + (t * sd / sqrt(S))^2)        t: Student, S - 1 degrees of freedom
    high = mean + sqrt((images_high - mean)^2 + (t * sd / sqrt(S))^2)

This says how far one score can be trusted on its own. It is not a test of the difference between two methods: they are
scored on the same images, and a paired comparison is much sharper.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtrit  # type: ignore[import-untyped]

LEVEL = 0.95
_Z = statistics.NormalDist().inv_cdf(0.5 + LEVEL / 2)

Source = Literal["images", "seeds", "images and seeds"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval in percent, and the noise that it covers."""

    low: float
    high: float
    covers: Source

    @property
    def half_width(self) -> float:
        """Return half of the interval's length, in points."""
        return (self.high - self.low) / 2


def mean(scores: Sequence[float]) -> float:
    """Return the mean, exact to the last bit whatever the order of the scores."""
    return math.fsum(scores) / len(scores)


def wilson(percent: float, images: int) -> tuple[float, float]:
    """Return the Wilson interval of a share of `images`, in percent.

    >>> [round(edge, 2) for edge in wilson(80.0, 50_000)]
    [79.65, 80.35]
    """
    share = percent / 100
    spread = _Z * _Z / images
    centre = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(max(share * (1 - share), 0) / images + spread / (4 * images)) / (1 + spread)
    return max(100 * (centre - half), 0.0), min(100 * (centre + half), 100.0)


def seed_half_width(scores: Sequence[float]) -> float:
    """Return half of Student's interval of the mean over seeds: 2.48 standard deviations for three of them.

    >>> round(seed_half_width([-1.0, 0.0, 1.0]), 2)
    2.48
    """
    count = len(scores)
    if count < 2:
        raise ValueError("the spread over seeds needs two of them")
    return student(count - 1) * statistics.stdev(scores) / math.sqrt(count)


def student(freedom: float) -> float:
    """Return how many standard errors half of Student's interval is long."""
    return float(stdtrit(freedom, 0.5 + LEVEL / 2))


def around(percent: float, error: float) -> tuple[float, float]:
    """Return the interval of a score with this standard error, both in percent."""
    return percent - _Z * error, percent + _Z * error


def interval(scores: Sequence[float], by_images: tuple[float, float] | None) -> Interval | None:
    """Return the interval of the mean of `scores` (one per seed), or None where nothing tells how it varies.

    `by_images` is the interval of that mean from the choice of images alone, where it is known.
    """
    covers_seeds = len(scores) > 1
    if not scores or not (by_images or covers_seeds):
        return None
    centre = mean(scores)
    low, high = by_images or (centre, centre)
    seeds = seed_half_width(scores) if covers_seeds else 0.0
    covers: Source = "images and seeds" if by_images and covers_seeds else "images" if by_images else "seeds"
    # Wilson's centre is pulled towards 50 %, so at 0 or 100 % one edge may lie beyond the score by rounding alone.
    below, above = max(centre - low, 0.0), max(high - centre, 0.0)
    return Interval(
        low=max(centre - math.hypot(below, seeds), 0.0),
        high=min(centre + math.hypot(above, seeds), 100.0),
        covers=covers,
    )
