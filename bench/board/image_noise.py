"""How scores vary with the images that are evaluated: told by a record's evidence, through its task.

    shares of the images      which images are right                    the variance of their mean
    any other score           the scores of resampled image sets        the variance of these (bootstrap)

All records of one data version are resampled alike, so that the differences of two methods vary less than each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vitptq.bench.contracts.task import Evidence, Task
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.record import Record

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class ImageNoise:
    """One score's values behind its variance."""

    values: NDArray[Any]
    """Booleans: per image whether it is right. Floats: per resample the score in percent."""

    @property
    def per_image(self) -> bool:
        """Tell whether the values are those of single images, in the order of the evaluation set."""
        return self.values.dtype == np.bool_

    @property
    def percent(self) -> NDArray[np.float64]:
        """Return the values in percent."""
        return np.asarray(self.values, np.float64) * (100.0 if self.per_image else 1.0)

    def variance_of(self, values: NDArray[np.float64]) -> float:
        """Return the variance of the score that `values` tell of, in points squared; they are of this noise's kind."""
        if len(values) < 2:
            return 0.0
        return float(values.var(ddof=1)) / (len(values) if self.per_image else 1)

    def matches(self, other: ImageNoise) -> bool:
        """Tell whether two scores can be paired: of the same kind, and of as many images or resamples."""
        return self.per_image == other.per_image and len(self.values) == len(other.values)


class ImageNoises(Protocol):
    """Where a board finds how a record's scores vary with the images."""

    def of(self, record: Record) -> Mapping[str, ImageNoise]:
        """Return the noise of each score by metric name; nothing for a score that the evidence does not tell of."""
        ...


class NoImageNoise:
    """A board that has records but no evidence."""

    def of(self, record: Record) -> Mapping[str, ImageNoise]:
        """Return nothing."""
        return {}


def measured(task: Task, evidence: Evidence, data: str) -> dict[str, ImageNoise]:
    """Return the noise of each score that the task can tell of; the data version `data` seeds the resamples."""
    found: dict[str, ImageNoise] = {}
    right = task.correct(evidence)
    if right is not None:
        found[task.ranking_metric.name] = ImageNoise(np.asarray(right, np.bool_))
    resampler = task.resampler(evidence)
    if resampler is not None:
        scores = resampler(image_counts(data, task.count(evidence)))
        known = {name: np.asarray(values, np.float64) for name, values in scores.items()}
        found |= {name: ImageNoise(values) for name, values in known.items() if np.isfinite(values).all()}
    return found


@lru_cache(maxsize=2)  # 40 MB for the 5,000 images of COCO, and records come task by task
def image_counts(data: str, images: int) -> NDArray[np.int64]:
    """Return how often each resample draws each image, (resamples, images): one table per data version."""
    rng = np.random.default_rng(int(sha256(data.encode())[:16], 16))
    drawn = (rng.integers(images, size=images) for _ in range(RESAMPLES))
    return np.stack([np.bincount(one, minlength=images) for one in drawn])
