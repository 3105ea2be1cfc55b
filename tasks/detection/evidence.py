"""What is kept of an evaluation, and the average precisions that it gives.

    image_ids, image_sizes         the images: COCO's id; height and width
    truth_images ... _boxes        per object: image (position), class, box (x, y, width, height), area, crowd flag,
    truth_masks, _mask_lengths     the masks' compressed run lengths, one after the other, and each one's length
    images, labels, scores, boxes  per detection: image, class, score, box (left, top, right, bottom)
    masks, mask_lengths            the detections' masks

Detections are in the order of the model's output, image after image: the evaluator breaks ties by it.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitptq.bench.contracts.task import Evidence, Metric
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.detection import masks
from vitptq.tasks.detection.annotation_checks import LARGEST_SIDE
from vitptq.tasks.detection.ground_truth import Annotations

Kind = Literal["bbox", "segm"]
Arrays = dict[str, NDArray[Any]]
Precision = Callable[[Kind, Arrays], NDArray[np.float64]]

KINDS: dict[Kind, tuple[str, str]] = {"bbox": ("box", "Box AP"), "segm": ("mask", "Mask AP")}
PARTS = {
    "": "",
    "50": " at IoU 0.50",
    "75": " at IoU 0.75",
    "_small": ", small",
    "_medium": ", medium",
    "_large": ", large",
}
METRICS = tuple(
    Metric(f"{name}_ap{part}", f"{title}{words}", ranks=f"{name}_ap{part}" == "box_ap", detail=part != "")
    for name, title in KINDS.values()
    for part, words in PARTS.items()
)
FASTER = "faster-coco-eval"
DETECTIONS_PER_IMAGE = 100
"""COCO's limit. More would be cut silently, so evidence with more is refused."""

_IMAGES = {"image_ids": (np.int64, ()), "image_sizes": (np.int32, (2,))}
_TRUTH = {
    "truth_images": (np.int32, ()),
    "truth_labels": (np.int16, ()),
    "truth_boxes": (np.float64, (4,)),
    "truth_areas": (np.float64, ()),
    "truth_crowd": (np.bool_, ()),
    "truth_mask_lengths": (np.uint32, ()),
}
_FOUND = {
    "images": (np.int32, ()),
    "labels": (np.int16, ()),
    "scores": (np.float32, ()),
    "boxes": (np.float32, (4,)),
    "mask_lengths": (np.uint32, ()),
}
_BYTES = {"truth_masks": (np.uint8, ()), "masks": (np.uint8, ())}
SCHEMA: dict[str, tuple[Any, tuple[int, ...]]] = _IMAGES | _TRUTH | _FOUND | _BYTES


@dataclass(frozen=True)
class Detections:
    """What a model found in one image: arrays with one row per detection."""

    labels: NDArray[np.int16]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    masks: tuple[bytes, ...]


def evidence(truth: Annotations, found: Iterable[Detections]) -> Arrays:
    """Return the evidence of one evaluation: `found` has one entry per image, in the order of the annotations."""
    every = list(found)
    joined, lengths = masks.packed([mask for one in every for mask in one.masks])
    return {
        "image_ids": truth.image_ids,
        "image_sizes": truth.sizes,
        **truth.truth,
        "images": np.repeat(np.arange(len(every), dtype=np.int32), [len(one.labels) for one in every]),
        "labels": np.concatenate([one.labels for one in every]).astype(np.int16),
        "scores": np.concatenate([one.scores for one in every]).astype(np.float32),
        "boxes": np.concatenate([one.boxes for one in every]).astype(np.float32).reshape(-1, 4),
        "masks": joined,
        "mask_lengths": lengths,
    }


def truth_hash(found: Evidence) -> str:
    """Return the hash of images and ground truth."""
    digest = hashlib.sha256()
    for name in sorted([*_IMAGES, *_TRUTH, "truth_masks"]):
        digest.update(f"{name} {found[name].dtype} {found[name].shape}\0".encode())
        digest.update(np.ascontiguousarray(found[name]).tobytes())
    return digest.hexdigest()


def check(found: Evidence, *, images: int | None, classes: int) -> None:
    """Raise BadInput where evidence is malformed, or covers another number of images than `images`."""
    if sorted(found) != sorted(SCHEMA):
        raise BadInput(f"evidence has {', '.join(sorted(found)) or 'nothing'}; expected {', '.join(sorted(SCHEMA))}")
    for name, (dtype, row) in SCHEMA.items():
        values = found[name]
        if values.dtype != dtype or values.shape[1:] != row or values.ndim != len(row) + 1:
            raise BadInput(
                f"evidence {name} is {values.dtype} of shape {values.shape}; "
                f"expected {np.dtype(dtype)} of shape ({', '.join(map(str, ('n', *row)))})"
            )
    count = len(found["image_ids"])
    if count == 0 or (images is not None and count != images):
        raise BadInput(f"evidence covers {count} images; the evaluation set has {images or 'some'}")
    for part, prefix in ((_IMAGES, ""), (_TRUTH, "truth_"), (_FOUND, "")):
        _check_part(found, part, prefix, count, classes)
    _check_values(found)
    for prefix in ("truth_", ""):
        _check_masks(found, prefix)


def _check_values(found: Evidence) -> None:
    if len(np.unique(found["image_ids"])) != len(found["image_ids"]):
        raise BadInput("evidence image_ids has an id twice; every image has its own")
    sides = found["image_sizes"]
    if sides.min() < 1 or sides.max() > LARGEST_SIDE:
        raise BadInput(f"evidence image_sizes has {sides.min()} to {sides.max()}; expected 1 to {LARGEST_SIDE} pixels")
    for name in ("truth_boxes", "boxes"):
        if found[name].size and np.abs(found[name]).max() > 2 * LARGEST_SIDE:
            far = found[name].flat[np.abs(found[name]).argmax()]
            raise BadInput(f"evidence {name} has {far}; no image here is larger than {LARGEST_SIDE} pixels")
    for name, values in (("truth_areas", found["truth_areas"]), ("truth_boxes", found["truth_boxes"][:, 2:])):
        if values.size and values.min() < 0:
            raise BadInput(f"evidence {name} has {values.min()}; areas, widths and heights are not negative")


def _check_masks(found: Evidence, prefix: str) -> None:
    joined, lengths = found[f"{prefix}masks"], found[f"{prefix}mask_lengths"]
    sizes = found["image_sizes"][found[f"{prefix}images"]]
    digest = hashlib.sha256()
    for values in (joined, lengths, sizes):
        digest.update(np.ascontiguousarray(values).tobytes())
    if digest.hexdigest() in _CHECKED_MASKS:
        return
    try:
        masks.check_rles(joined, lengths, sizes)
    except BadInput as error:
        raise BadInput(f"evidence {prefix}masks: {error}") from error
    _CHECKED_MASKS.append(digest.hexdigest())


_CHECKED_MASKS: deque[str] = deque(maxlen=8)
"""Digests of masks that were found right: each of score, count and truth checks the evidence that it is given."""


def _check_part(found: Evidence, part: dict[str, Any], prefix: str, images: int, classes: int) -> None:
    lengths = {name: len(found[name]) for name in part}
    if len(set(lengths.values())) != 1:
        raise BadInput(
            f"evidence has {', '.join(f'{n} {name}' for name, n in lengths.items())}; expected as many of each"
        )
    if part is _IMAGES:
        return
    for name, limit in ((f"{prefix}images", images), (f"{prefix}labels", classes)):
        outside = found[name][(found[name] < 0) | (found[name] >= limit)]
        if len(outside):
            raise BadInput(f"evidence {name} has {outside[0]}; expected 0 to {limit - 1}")
    if int(found[f"{prefix}mask_lengths"].sum()) != len(found[f"{prefix}masks"]):
        raise BadInput(
            f"evidence {prefix}masks has {len(found[f'{prefix}masks'])} bytes, its lengths say another number"
        )
    numbers = (name for name in part if found[name].dtype.kind == "f")
    for name in numbers:
        if not np.isfinite(found[name]).all():
            raise BadInput(f"evidence {name} has a value that is not finite")
    if part is _FOUND and len(found["images"]) and int(np.bincount(found["images"]).max()) > DETECTIONS_PER_IMAGE:
        raise BadInput(f"evidence has more than {DETECTIONS_PER_IMAGE} detections of one image, COCO's limit")


def scores(found: Arrays, precision: Precision | None = None) -> dict[str, float]:
    """Return the average precisions in percent; one that is not defined (no object of that size) is left out."""
    precision = precision or (faster_precision if evaluator() == FASTER else pycocotools_precision)
    return {
        name: value for kind, (prefix, _) in KINDS.items() for name, value in _averages(prefix, precision(kind, found))
    }


def evaluator() -> str:
    """Return the distribution that computes the scores: faster-coco-eval where it is installed, else pycocotools.

    Both give the same precision tables; on 500 images of 80 classes with 30 detections each, the first took 3.9 s and
    the second 15.7 s.
    """
    return FASTER if importlib.util.find_spec("faster_coco_eval") else "pycocotools"


def _averages(prefix: str, precision: NDArray[np.float64]) -> Iterable[tuple[str, float]]:
    """Yield COCO's averages of precision (10 IoU thresholds, 101 recalls, classes, 4 areas, 1 limit)."""
    parts: dict[str, tuple[slice, int]] = {
        "": (slice(None), 0), "50": (slice(0, 1), 0), "75": (slice(5, 6), 0),
        "_small": (slice(None), 1), "_medium": (slice(None), 2), "_large": (slice(None), 3),
    }  # fmt: skip
    for part, (thresholds, area) in parts.items():
        values = precision[thresholds, :, :, area, -1]
        values = values[values > -1]
        if values.size:
            yield f"{prefix}_ap{part}", 100.0 * float(values.mean())


def pycocotools_precision(kind: Kind, found: Arrays) -> NDArray[np.float64]:
    """Return the precision table of pycocotools."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise Missing(f"pycocotools cannot be imported ({error}): pip install pycocotools") from error
    with redirect_stdout(StringIO()):  # it prints its progress
        evaluator = COCOeval(*truth_and_found(kind, found, COCO), kind)
        return _precision(evaluator)


def faster_precision(kind: Kind, found: Arrays) -> NDArray[np.float64]:
    """Return the precision table of faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    with redirect_stdout(StringIO()):
        evaluator = COCOeval_faster(*truth_and_found(kind, found, COCO), kind)
        return _precision(evaluator)


def _precision(evaluator: Any) -> NDArray[np.float64]:
    evaluator.params.maxDets = [DETECTIONS_PER_IMAGE]
    evaluator.evaluate()
    evaluator.accumulate()
    table: NDArray[np.float64] = evaluator.eval["precision"]
    return table


def truth_and_found(kind: Kind, found: Arrays, coco: type[Any]) -> tuple[Any, Any]:
    """Return ground truth and detections as an evaluator wants them; `coco` is its class COCO."""
    sizes = found["image_sizes"].tolist()
    images = [{"id": i, "height": height, "width": width} for i, (height, width) in enumerate(sizes)]
    # a class without ground truth has no precision, so it takes no part in the averages
    present = sorted(set(found["truth_labels"].tolist()))
    categories = [{"id": label, "name": str(label)} for label in present]
    pair = []
    for objects in (_truth_objects(found), _found_objects(kind, found, set(present))):
        one = coco()
        one.dataset = {"images": images, "categories": categories, "annotations": objects}
        one.createIndex()
        pair.append(one)
    return pair[0], pair[1]


def _truth_objects(found: Arrays) -> list[dict[str, Any]]:
    sizes = found["image_sizes"].tolist()
    rows = zip(
        found["truth_images"].tolist(),
        found["truth_labels"].tolist(),
        found["truth_boxes"].tolist(),
        found["truth_areas"].tolist(),
        found["truth_crowd"].tolist(),
        masks.unpacked(found["truth_masks"], found["truth_mask_lengths"]),
        strict=True,
    )
    return [
        {
            "id": number, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd),
            "segmentation": {"size": sizes[image], "counts": counts},
        }
        for number, (image, label, box, area, crowd, counts) in enumerate(rows, start=1)  # 0 means "no match"
    ]  # fmt: skip


def _found_objects(kind: Kind, found: Arrays, labels: set[int]) -> list[dict[str, Any]]:
    sizes = found["image_sizes"].tolist()
    corners = found["boxes"].astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    images = found["images"].tolist()
    rles = [
        {"size": sizes[image], "counts": counts}
        for image, counts in zip(images, masks.unpacked(found["masks"], found["mask_lengths"]), strict=True)
    ]
    # COCO's sizes small, medium and large are those of the box for boxes and of the mask for masks
    areas = (boxes[:, 2] * boxes[:, 3]).tolist() if kind == "bbox" else masks.areas(rles)
    rows = zip(images, found["labels"].tolist(), found["scores"].tolist(), boxes.tolist(), areas, rles, strict=True)
    return [
        {
            "id": number, "image_id": image, "category_id": label, "score": score, "bbox": box, "area": area,
            "iscrowd": 0, "segmentation": counts,
        }
        for number, (image, label, score, box, area, counts) in enumerate(rows, start=1)
        if label in labels
    ]  # fmt: skip
