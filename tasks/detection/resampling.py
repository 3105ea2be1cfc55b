"""Average precision of many resampled evaluation sets at once: detections are matched once, then only counted.

A resample is told by how often it draws each image. Whether a detection is right does not depend on other images, so a
resample changes nothing but how often each detection and each object counts. Recall rises with right detections only,
so the curve is needed at these alone. Copies of one detection stay together where the scores of several tie.

    seen       detections drawn, down to a right one                     precision = right / seen
    right      right detections drawn, down to that one                  recall = right / objects
    AP         mean over COCO's 101 recalls of the highest precision at that recall or a higher one
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import numpy as np
from numpy.typing import NDArray

from vitptq.bench.contracts.task import Resampler
from vitptq.bench.errors import Missing
from vitptq.tasks.detection.evidence import DETECTIONS_PER_IMAGE, KINDS, Arrays, Kind, truth_and_found

Draws = NDArray[np.int32]
"""(images, resamples): how often each resample draws each image."""
Curve = NDArray[np.float64]
"""(right detections, resamples)."""

RECALLS = np.linspace(0.0, 1.0, 101)
NUMBERS_AT_A_TIME = 4_000_000
"""Detections x resamples held at once: 16 MB for each array."""


@dataclass(frozen=True, slots=True)
class ClassMatches:
    """The detections and objects of one class, matched at COCO's ten overlaps."""

    images: NDArray[np.intp]
    """(detections,): the image of each, in the order of falling scores."""
    right: NDArray[np.bool_]
    """(overlaps, detections): matched with an object that counts."""
    ignored: NDArray[np.bool_]
    """(overlaps, detections): matched with a crowd, neither right nor wrong."""
    objects: NDArray[np.int64]
    """(images,): how many objects count."""


def resampler(found: Arrays) -> Resampler:
    """Return a function from image counts (resamples, images) to box and mask AP, percent, each (resamples,)."""
    matched = {f"{prefix}_ap": matches(kind, found) for kind, (prefix, _) in KINDS.items()}

    def resampled(counts: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
        draws = np.ascontiguousarray(counts.T, dtype=np.int32)
        return {name: average_precisions(classes, draws) for name, classes in matched.items()}

    return resampled


def matches(kind: Kind, found: Arrays) -> tuple[ClassMatches, ...]:
    """Match detections and objects of every size as COCO does."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise Missing(f"pycocotools cannot be imported ({error}): pip install pycocotools") from error
    with redirect_stdout(StringIO()):  # it prints its progress
        evaluator = COCOeval(*truth_and_found(kind, found, COCO), kind)
        evaluator.params.maxDets = [DETECTIONS_PER_IMAGE]
        evaluator.params.areaRng = evaluator.params.areaRng[:1]
        evaluator.evaluate()
    count = len(found["image_ids"])
    by_class = (evaluator.evalImgs[start : start + count] for start in range(0, len(evaluator.evalImgs), count))
    return tuple(_class_matches([one for one in images if one is not None], count) for images in by_class)


def _class_matches(images: Sequence[dict[str, NDArray[np.float64]]], count: int) -> ClassMatches:
    """Join what the evaluator says of the images that have detections or objects of one class."""
    order = np.argsort(-np.concatenate([one["dtScores"] for one in images]), kind="mergesort")
    places = np.array([one["image_id"] for one in images], np.intp)
    matched = np.concatenate([one["dtMatches"] for one in images], axis=1)[:, order] != 0
    ignored = np.concatenate([one["dtIgnore"] for one in images], axis=1)[:, order].astype(np.bool_)
    objects = np.zeros(count, np.int64)
    objects[places] = [int(np.count_nonzero(np.equal(one["gtIgnore"], 0))) for one in images]
    detected = np.repeat(places, [len(one["dtScores"]) for one in images])[order]
    return ClassMatches(detected, matched & ~ignored, ignored, objects)


def average_precisions(classes: Sequence[ClassMatches], draws: Draws) -> NDArray[np.float64]:
    """Return the AP of each resample in percent: the mean over the classes of which it draws an object.

    A resample without any object has none (NaN).
    """
    sums, known = np.zeros((2, draws.shape[1]))
    for one in classes:
        objects = one.objects @ draws
        for part in _parts(len(one.images), draws.shape[1]):
            sums[part] += _class_precision(one, draws[:, part], objects[part])
        known += objects > 0
    return 100.0 * np.divide(sums, known, out=np.full_like(sums, np.nan), where=known > 0)


def _parts(detections: int, resamples: int) -> Iterator[slice]:
    size = max(NUMBERS_AT_A_TIME // max(detections, 1), 1)
    yield from (slice(start, start + size) for start in range(0, resamples, size))


def _class_precision(one: ClassMatches, draws: Draws, objects: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the AP of one class, 0 to 1, mean over the overlaps; 0 for a resample without its objects."""
    drawn = draws[one.images]  # (detections, resamples)
    seen = np.cumsum(drawn, axis=0, dtype=np.int32)
    total = np.zeros(draws.shape[1])
    for right, ignored in zip(one.right, one.ignored, strict=True):
        hits = np.flatnonzero(right)
        if hits.size:
            counted = seen[hits] - _drawn_before(hits, drawn, np.flatnonzero(ignored))
            total += _area(np.cumsum(drawn[hits], axis=0, dtype=np.int32), counted, objects)
    return total / len(one.right)


def _drawn_before(hits: NDArray[np.intp], drawn: Draws, ignored: NDArray[np.intp]) -> Draws:
    """Return how many ignored detections each resample drew before each right one."""
    sums = np.cumsum(drawn[ignored], axis=0, dtype=np.int32)
    return np.concatenate([np.zeros_like(drawn[:1]), sums])[np.searchsorted(ignored, hits)]


def _area(right: Draws, seen: Draws, objects: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean precision over COCO's recalls, from counts down to each right detection."""
    precision = right / (seen + np.spacing(1))  # pycocotools divides so, too
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = _recalls_reached(right / np.maximum(objects, 1))
    newly = np.diff(reached, axis=0, prepend=0)
    area: NDArray[np.float64] = np.einsum("hr,hr->r", newly, best) / len(RECALLS)
    return np.where(objects > 0, area, 0.0)


def _recalls_reached(recall: Curve) -> NDArray[np.int64]:
    """Return how many of COCO's recalls are at most each recall, as comparing each of them would."""
    last = len(RECALLS) - 1
    place = np.minimum((recall * last).astype(np.int64), last)
    place += (place < last) & (RECALLS[np.minimum(place + 1, last)] <= recall)
    place -= RECALLS[place] > recall
    return place + 1
