"""Run-length encoded masks, as COCO keeps them, and many of them in two arrays."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitptq.bench.errors import BadInput


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
