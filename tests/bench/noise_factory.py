"""Evidence without evidence: how scores vary with the images, planted to fit records made to order."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from vitptq.bench.board.image_noise import RESAMPLES, ImageNoise
from vitptq.bench.results.record import Record


class PlantedNoise:
    """The same images are hard for every method: a record has the easiest right, as many as its score says.

    `own` says how much each record's order of the images is its own (0: all have the same). Scores that are no share of
    the images vary together over the resamples, and by a tenth of it on their own.
    """

    def __init__(self, own: float = 0.02) -> None:
        self.own = own

    def of(self, record: Record) -> Mapping[str, ImageNoise]:
        """Return the noise of every score of a record."""
        shares = {metric.name for metric in record.metrics if metric.proportion}
        return {
            name: self._right(record, score) if name in shares else _resampled(record, score)
            for name, score in record.scores.items()
        }

    def _right(self, record: Record, score: float) -> ImageNoise:
        common = np.random.default_rng(1).random(record.images)
        order = np.argsort(common + self.own * _rng(record).standard_normal(record.images))
        right = np.zeros(record.images, np.bool_)
        right[order[: round(record.images * score / 100)]] = True
        return ImageNoise(right)


def _resampled(record: Record, score: float) -> ImageNoise:
    common = np.random.default_rng(2).standard_normal(RESAMPLES)
    return ImageNoise(score + common + 0.1 * _rng(record).standard_normal(RESAMPLES))


def _rng(record: Record) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(record.id.encode()))
