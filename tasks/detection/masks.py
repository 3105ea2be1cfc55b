"""Run-length encoded masks, as COCO keeps them, and many of them in two arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitptq.bench.errors import BadInput

PORTION = 2**22
SHOWN_BYTES = 40
LONGEST_RUN = 100
"""Digits of a run; seven are enough for 2**32 pixels, and what is longer is a large number all the same."""


def rle(segmentation: Any, height: int, width: int) -> bytes:
    """Return a ground truth mask, given as polygons or as run lengths, as compressed run lengths.

    >>> rle([[1, 1, 3, 1, 3, 3, 1, 3]], 4, 4)
    b'52203'
    """
    from pycocotools import mask

    if isinstance(segmentation, dict) and list(segmentation.get("size", ())) != [height, width]:
        raise BadInput(f"a mask is of size {segmentation.get('size')} in an image of {[height, width]} (height, width)")
    try:
        if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
            return segmentation["counts"].encode()
        objects = mask.frPyObjects(segmentation, height, width)
        return bytes((mask.merge(objects) if isinstance(objects, list) else objects)["counts"])
    except Exception as error:  # pycocotools raises the bare class
        text = str(segmentation)[:60]
        raise BadInput(f"a segmentation is neither polygons nor run lengths ({error}): {text}") from error


def check_rles(joined: NDArray[np.uint8], lengths: NDArray[np.uint32], sizes: NDArray[Any]) -> None:
    """Raise BadInput for the first of many packed masks that is no mask of its size (height, width).

    COCO writes a run as digits of 5 bits from the lowest on, each as a character from "0" on, with a 6th bit where
    another digit follows; the last one's highest bit is the sign. From the fourth run on, the difference to the run
    before the last is written. pycocotools reads anything, also beyond the image's end.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    for first, last in _portions(ends):
        start = int(ends[first - 1]) if first else 0
        part = joined[start : int(ends[last - 1])]
        _check_portion(part, lengths[first:last].astype(np.int64), sizes[first:last], first)


def _portions(ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of masks of together about `PORTION` bytes, so that their digits fit into memory."""
    first = 0
    while first < len(ends):
        limit = (int(ends[first - 1]) if first else 0) + PORTION
        last = max(first + 1, int(np.searchsorted(ends, limit, side="right")))
        yield first, last
        first = last


def _check_portion(part: NDArray[np.uint8], lengths: NDArray[np.int64], sizes: NDArray[Any], number: int) -> None:
    digits = part.astype(np.int64) - ord("0")
    stops = np.cumsum(lengths)
    broken = lengths == 0
    wrong = (digits < 0) | (digits >= 64)
    broken |= _any_within(wrong, stops)
    more = (digits & 32) > 0
    broken[~broken] |= more[stops[~broken] - 1]  # the last digit announces another
    if broken.any():
        first = int(broken.argmax())
        text = part[stops[first] - lengths[first] : stops[first]].tobytes()[:SHOWN_BYTES].decode("ascii", "replace")
        raise BadInput(f"mask {number + first} is not in COCO's form of run lengths ({text!r})")
    runs, owners = _runs(digits, more, np.repeat(np.arange(len(lengths)), lengths))
    totals = np.bincount(owners, weights=runs, minlength=len(lengths))
    pixels = sizes[:, 0].astype(np.int64) * sizes[:, 1].astype(np.int64)
    negative = np.bincount(owners, weights=runs < 0, minlength=len(lengths)) > 0
    if (negative | (totals != pixels)).any():
        first = int((negative | (totals != pixels)).argmax())
        reason = "has a negative run" if negative[first] else other_pixel_count(totals[first], *sizes[first].tolist())
        raise BadInput(f"mask {number + first}: {reason}")


def _any_within(flags: NDArray[np.bool_], stops: NDArray[np.int64]) -> NDArray[np.bool_]:
    counts = np.concatenate([[0], np.cumsum(flags)])
    found: NDArray[np.bool_] = np.diff(counts[np.concatenate([[0], stops])]) > 0
    return found


def _runs(
    digits: NDArray[np.int64], more: NDArray[np.bool_], owner: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return every run length and the mask that it belongs to."""
    ends = np.flatnonzero(~more)
    number = np.concatenate([[0], np.cumsum(~more)[:-1]])  # which run a digit belongs to
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(digits)) - starts[number]
    # as floats: a forged run of many digits becomes a large number, where integers would overflow
    powers = np.array([32.0**power for power in range(LONGEST_RUN + 1)])
    weights = (digits & 31) * powers[np.minimum(place, LONGEST_RUN)]
    values = np.bincount(number, weights=weights).astype(np.float64)
    values = values - np.where(digits[ends] & 16, powers[np.minimum(place[ends] + 1, LONGEST_RUN)], 0.0)
    owners = owner[ends]
    position = np.arange(len(ends)) - np.searchsorted(owners, np.arange(owners[-1] + 1))[owners]  # within its mask
    return _undo_differences(values, owners, position), owners


def _undo_differences(
    values: NDArray[np.float64], owners: NDArray[np.int64], position: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the runs: the first three of a mask are written as they are, the others as differences two runs apart."""
    runs = values.copy()
    for parity, base in ((1, 1), (0, 2)):
        rows = np.flatnonzero((position % 2 == parity) & (position >= base))
        if not len(rows):
            continue
        sums = np.cumsum(values[rows])
        heads = np.flatnonzero(position[rows] == base)
        before = np.concatenate([[0.0], sums])[heads]
        runs[rows] = sums - np.repeat(before, np.diff(np.concatenate([heads, [len(rows)]])))
    return runs


def other_pixel_count(pixels: float, height: int, width: int) -> str:
    """Say that a mask's runs cover another number of pixels than its image has."""
    return f"the runs of a mask add up to {pixels:.0f} pixels in an image of {height} x {width} (height, width)"


def encoded(masks: Tensor) -> list[bytes]:
    """Return the run lengths of boolean masks (masks, height, width), on any device."""
    from pycocotools import mask

    if len(masks) == 0:
        return []
    # the encoder wants columns one after the other: transposed here, where it is fast, its view needs no copy
    columns = masks.transpose(1, 2).to(torch.uint8).contiguous().cpu().numpy()
    return [found["counts"] for found in mask.encode(columns.transpose(2, 1, 0))]


def decoded(counts: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask (height, width)."""
    from pycocotools import mask

    with warnings.catch_warnings():
        # pycocotools 2.0.11 converts its own arrays in a way that numpy 2 will no longer know
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        found: NDArray[np.bool_] = mask.decode({"size": [height, width], "counts": counts}).astype(np.bool_)
    return found


def areas(rles: Sequence[dict[str, Any]]) -> list[float]:
    """Return how many pixels each mask (`size`, `counts`) covers."""
    from pycocotools import mask

    # 255 at a time: pycocotools 2.0.11 puts their number into eight bits, which numpy 2 refuses for more
    groups = (list(rles[start : start + 255]) for start in range(0, len(rles), 255))
    return [float(area) for group in groups for area in mask.area(group)]


def packed(rles: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return all bytes one after the other, and the length of each mask's.

    >>> packed([b"ab", b"", b"c"])
    (array([97, 98, 99], dtype=uint8), array([2, 0, 1], dtype=uint32))
    """
    joined = np.frombuffer(b"".join(rles), np.uint8)
    return joined, np.array([len(one) for one in rles], np.uint32)


def unpacked(joined: NDArray[np.uint8], lengths: NDArray[np.uint32]) -> list[bytes]:
    """Return what `packed` was given."""
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    data = joined.tobytes()
    return [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []
