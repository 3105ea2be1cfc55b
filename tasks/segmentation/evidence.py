"""Counts of pixels per image and class, and the scores that follow from them: mIoU, mAcc and aAcc.

The evidence of semantic segmentation is three tables (images, classes): pixels where prediction and label agree, pixels
predicted as a class, pixels labelled as a class. Pixels without a label are in none of them. For pictures, `maps`
(pictures, height, width) has the predicted class of every pixel of the first images; no score needs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitptq.bench.contracts.task import Evidence, Resampler
from vitptq.bench.errors import BadInput

IGNORED = 255
LARGEST_CLASS_COUNT = 254
TABLES = ("intersection", "labelled", "predicted")
MAPS = "maps"
COUNT = np.dtype(np.uint32)
"""Holds the pixels of any image below 4 gigapixels; what the tables share compresses away."""


def pixel_counts(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return (3, classes), the rows in the order of `TABLES`, for predictions and labels of equal shape.

    Predictions are 0 to classes - 1, labels too, or `IGNORED`.

    >>> pixel_counts(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 255]]), 2).tolist()
    [[1, 0], [2, 0], [1, 1]]
    """
    # one row more than there are classes takes the pixels without a label
    rows = labels.long().clamp(max=classes)
    pairs = (rows * classes + predicted.long()).flatten()
    confusion = torch.bincount(pairs, minlength=(classes + 1) * classes).view(classes + 1, classes)[:classes]
    return torch.stack([confusion.diagonal(), confusion.sum(dim=1), confusion.sum(dim=0)])


def as_evidence(counts: Tensor, maps: Sequence[Tensor] = ()) -> dict[str, NDArray[Any]]:
    """Return the evidence of counts (images, 3, classes) and, for pictures, predicted maps (height, width)."""
    tables = counts.cpu().numpy()
    found: dict[str, NDArray[Any]] = {name: tables[:, row].astype(COUNT) for row, name in enumerate(TABLES)}
    return found | ({MAPS: torch.stack(list(maps)).cpu().numpy()} if maps else {})


def scores(evidence: Evidence) -> dict[str, float]:
    """Return mIoU, mAcc and aAcc in percent, of the counts summed over the images.

    A class that is neither predicted nor labelled has no IoU, one that is not labelled no accuracy; the means leave
    them out.
    """
    intersection, labelled, predicted = (evidence[name].sum(axis=0, dtype=np.int64) for name in TABLES)
    union = labelled + predicted - intersection
    return {
        "miou": 100.0 * _mean_share(intersection, union),
        "macc": 100.0 * _mean_share(intersection, labelled),
        "aacc": 100.0 * float(intersection.sum() / labelled.sum()),
    }


def _mean_share(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> float:
    there = wholes > 0
    return float(np.mean(parts[there] / wholes[there]))


def resampler(evidence: Evidence) -> Resampler:
    """Return a function from image counts (resamples, images) to mIoU, mAcc and aAcc in percent, each (resamples,)."""
    tables = [evidence[name].astype(np.float64) for name in TABLES]  # pixel sums stay whole numbers below 2^53

    def resampled(counts: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
        draws = counts.astype(np.float64)
        intersection, labelled, predicted = (draws @ table for table in tables)  # (resamples, classes)
        return {
            "miou": 100.0 * _mean_shares(intersection, labelled + predicted - intersection),
            "macc": 100.0 * _mean_shares(intersection, labelled),
            "aacc": 100.0 * _mean_shares(*(part.sum(axis=1, keepdims=True) for part in (intersection, labelled))),
        }

    return resampled


def _mean_shares(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the classes that are there, of each resample; NaN where none is."""
    there = wholes > 0
    sums = np.divide(parts, wholes, out=np.zeros_like(parts), where=there).sum(axis=1)
    count = there.sum(axis=1)
    return np.divide(sums, count, out=np.full_like(sums, np.nan), where=count > 0)


def check(evidence: Evidence, *, classes: int, images: int | None, pictures: int = 0) -> None:
    """Raise BadInput where evidence cannot be the counts of `images` images (None: any number) and `classes`."""
    expected = sorted((*TABLES, MAPS) if pictures else TABLES)
    if sorted(evidence) != expected:
        raise BadInput(f"evidence has {', '.join(sorted(evidence)) or 'nothing'}; expected {', '.join(expected)}")
    for name in TABLES:
        table = evidence[name]
        if table.dtype != COUNT or table.ndim != 2 or table.shape[1] != classes:
            raise BadInput(
                f"evidence {name} is {table.dtype} of shape {table.shape}; expected {COUNT}, (images, {classes})"
            )
    rows = {name: len(evidence[name]) for name in TABLES}
    if len(set(rows.values())) != 1 or 0 in rows.values():
        raise BadInput(f"evidence has {', '.join(f'{count} rows of {name}' for name, count in rows.items())}")
    if images is not None and rows["labelled"] != images:
        raise BadInput(f"evidence covers {rows['labelled']} images; the evaluation set has {images}")
    _check_counts(evidence)
    if pictures:
        _check_maps(evidence, classes, min(pictures, rows["predicted"]))


def _check_counts(evidence: Evidence) -> None:
    intersection, labelled, predicted = (evidence[name] for name in TABLES)
    impossible = (intersection > np.minimum(labelled, predicted)).any(axis=1)
    impossible |= labelled.sum(axis=1, dtype=np.int64) != predicted.sum(axis=1, dtype=np.int64)
    if impossible.any():
        raise BadInput(
            f"evidence of image {int(impossible.argmax())} is impossible: the intersection is at most either area, and "
            "labelled and predicted pixels are equally many"
        )
    if not labelled.any():
        raise BadInput("evidence has no labelled pixel, so nothing can be scored")


def _check_maps(evidence: Evidence, classes: int, pictures: int) -> None:
    maps = evidence[MAPS]
    if maps.dtype != np.uint8 or maps.ndim != 3 or len(maps) != pictures or maps.max(initial=0) >= classes:
        raise BadInput(
            f"evidence {MAPS} is {maps.dtype} of shape {maps.shape}; expected uint8, ({pictures}, height, width), "
            f"classes 0 to {classes - 1}"
        )
    for position, found in enumerate(maps):
        if (np.bincount(found.ravel(), minlength=classes) < evidence["predicted"][position]).any():
            raise BadInput(
                f"evidence of image {position} is impossible: its map has fewer pixels of a class than counted"
            )


def labels_hash(evidence: Evidence) -> str:
    """Return the sha256 of the labelled areas."""
    return hashlib.sha256(np.ascontiguousarray(evidence["labelled"]).tobytes()).hexdigest()
