"""Let OpenMMLab's detectors run on a GPU where mmcv was compiled for the CPU only.

The two operators that detectors need, non-maximum suppression and RoIAlign, also come with torchvision, compiled for
CUDA. Tensors on the CPU keep going to mmcv's own.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torchvision import ops

from vitptq.bench.errors import Unsupported
from vitptq.tasks.openmmlab.libraries import require

_REPLACED = "_vitptq_torchvision"


def ensure_ops(device: torch.device) -> None:
    """Send mmcv's nms and roi_align of CUDA tensors to torchvision, if `device` is CUDA and mmcv was built without."""
    if device.type != "cuda":
        return
    require("mmdet")
    from mmcv.ops import get_compiling_cuda_version

    if get_compiling_cuda_version() == "not available":
        replace_ops()


def replace_ops() -> None:
    """Replace the two operators wherever mmcv and mmdet look them up; a second call changes nothing."""
    # As modules: in the package `mmcv.ops` the same names are functions.
    suppression = importlib.import_module("mmcv.ops.nms")
    alignment = importlib.import_module("mmcv.ops.roi_align")
    masks = importlib.import_module("mmdet.structures.mask.structures")
    if hasattr(suppression, _REPLACED):
        return
    nms, roi_align = suppression.NMSop.apply, alignment.roi_align

    def dispatched_nms(boxes: Tensor, *arguments: Any) -> Tensor:
        return torchvision_nms(boxes, *arguments) if boxes.is_cuda else nms(boxes, *arguments)

    def dispatched_roi_align(features: Tensor, *arguments: Any) -> Tensor:
        return torchvision_roi_align(features, *arguments) if features.is_cuda else roi_align(features, *arguments)

    vars(suppression)["NMSop"] = SimpleNamespace(apply=dispatched_nms)
    vars(alignment)["roi_align"] = dispatched_roi_align
    vars(masks)["roi_align"] = dispatched_roi_align
    vars(suppression)[_REPLACED] = True


def torchvision_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0, score_threshold: float = 0.0, most: int = -1
) -> Tensor:
    """Return the kept rows of `boxes` (N, 4), best first, as mmcv's operator does, at most `most` if it is positive."""
    if offset:
        raise Unsupported("torchvision's nms has no pixel offset; build mmcv with CUDA for detectors that need it")
    rows: Tensor | None = None
    if score_threshold > 0:
        rows = (scores > score_threshold).nonzero().squeeze(1)
        boxes, scores = boxes[rows], scores[rows]
    kept = ops.nms(boxes.float(), scores.float(), float(iou_threshold))
    if most > 0:
        kept = kept[:most]
    return kept if rows is None else rows[kept]


def torchvision_roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """Return the features (R, C, h, w) under rois (R, 5: image, x1, y1, x2, y2), as mmcv's operator does."""
    if pool_mode != "avg":
        raise Unsupported(f"torchvision's roi_align averages, {pool_mode!r} pooling needs mmcv built with CUDA")
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    aligned_features: Tensor = ops.roi_align(features, rois, size, spatial_scale, sampling_ratio, aligned)
    return aligned_features
