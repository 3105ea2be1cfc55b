"""What is kept of an evaluation: per image the predicted class and the label, int16, in the order of the names."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from vitptq.bench.contracts.task import Evidence
from vitptq.bench.errors import BadInput

LARGEST_CLASS_COUNT = 2**15


def correct(evidence: Evidence) -> NDArray[np.bool_]:
    """Return per image whether the most likely class is the label."""
    return np.equal(evidence["predictions"], evidence["labels"])


def top1(evidence: Evidence) -> float:
    """Return the share of correct predictions in percent."""
    right = correct(evidence)
    return 100.0 * int(np.count_nonzero(right)) / len(right)


def labels_hash(labels: NDArray[np.int16]) -> str:
    """Return the hash of the labels of all images."""
    return hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()


def check(evidence: Evidence, *, classes: int, images: int | None) -> None:
    """Raise BadInput where evidence is malformed, or covers another number of images than `images`."""
    if sorted(evidence) != ["labels", "predictions"]:
        raise BadInput(f"evidence has {', '.join(sorted(evidence)) or 'nothing'}; expected labels, predictions")
    for name, values in evidence.items():
        if values.dtype != np.int16 or values.ndim != 1:
            raise BadInput(f"evidence {name} is {values.dtype} of shape {values.shape}; expected int16, one per image")
        outside = values[(values < 0) | (values >= classes)]
        if len(outside):
            raise BadInput(f"evidence {name} has class {outside[0]}; classes are 0 to {classes - 1}")
    counts = {name: len(values) for name, values in sorted(evidence.items())}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise BadInput(f"evidence has {counts['predictions']} predictions for {counts['labels']} labels")
    if images is not None and counts["labels"] != images:
        raise BadInput(f"evidence covers {counts['labels']} images; the evaluation set has {images}")
