"""Run a two-stage detector of mmdet: predictions for the evaluation, differentiable outputs for methods and audit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitptq.tasks.detection.evidence import Detections
from vitptq.tasks.detection.masks import encoded


@torch.no_grad()
def detect(model: Any, inputs: Tensor, samples: Sequence[Any]) -> tuple[list[Detections], int]:
    """Return the detections of each image, and how many images the model has outputs for that are not finite.

    `inputs` (images, 3, height, width) and `samples` come from the data preprocessor. It is mmdet's own prediction, in
    its steps: boxes with NaN are dropped in there, so a diverged model would seem to find nothing.
    """
    with _recorded(model) as broken, warnings.catch_warnings():
        # mmdet 3.5.1 copies masks that went through Cascade R-CNN in a way that torch advises against
        warnings.filterwarnings("ignore", message="To copy construct from a tensor")
        features = model.extract_feat(inputs)
        proposals = model.rpn_head.predict(features, samples, rescale=False)
        if broken.images.any():  # NaN boxes must not reach the compiled operators
            return [], int(broken.images.sum())
        results = model.roi_head.predict(features, proposals, samples, rescale=True)
        bad = broken.images
        for rows, owners in ((broken.boxes, proposals), (broken.masks, results)):
            counts = torch.tensor([len(owner) for owner in owners])
            image = torch.repeat_interleave(torch.arange(len(owners)), counts)
            for finite in rows:
                bad[image[~finite.cpu()]] = True
    return [detections(one) for one in results], int(bad.sum())


class _Broken:
    """Which images, boxes and masks have outputs that are not finite."""

    def __init__(self) -> None:
        self.images = torch.zeros(0, dtype=torch.bool)
        self.boxes: list[Tensor] = []
        self.masks: list[Tensor] = []

    def after_rpn(self, _module: nn.Module, _args: Any, output: Any) -> None:
        levels = [level.flatten(1).isfinite().all(dim=1) for part in output for level in part]
        self.images = ~torch.stack(levels).all(dim=0).cpu()

    def after_boxes(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self.boxes.append(torch.stack([part.flatten(1).isfinite().all(dim=1) for part in output]).all(dim=0))

    def after_masks(self, _module: nn.Module, _args: Any, output: Tensor) -> None:
        self.masks.append(output.flatten(1).isfinite().all(dim=1))


@contextmanager
def _recorded(model: Any) -> Iterator[_Broken]:
    broken = _Broken()
    handles = [model.rpn_head.register_forward_hook(broken.after_rpn)]
    handles += [head.register_forward_hook(broken.after_boxes) for head in _several(model.roi_head.bbox_head)]
    handles += [head.register_forward_hook(broken.after_masks) for head in _several(model.roi_head.mask_head)]
    try:
        yield broken
    finally:
        for handle in handles:
            handle.remove()


def detections(result: Any) -> Detections:
    """Return mmdet's result of one image (boxes, labels, scores, masks) as evidence keeps it."""
    return Detections(
        labels=result.labels.cpu().numpy().astype(np.int16),
        scores=result.scores.cpu().numpy().astype(np.float32),
        boxes=result.bboxes.cpu().numpy().astype(np.float32),
        masks=tuple(encoded(result.masks)),
    )


def outputs(model: Any, batch: Tensor) -> tuple[Tensor, ...]:
    """Return the differentiable outputs for a batch (images, 3, height, width), in one flat tuple.

    In order: the neck's levels; scores and box deltas of the region proposals, per level; scores and box deltas of the
    box heads, per stage; masks of the mask heads, per stage. The heads see as many proposals per image as the model's
    test configuration keeps at most, without suppression of overlapping ones, so that the number of operations does not
    depend on the weights; no gradient flows through the proposals' places.
    """
    from mmdet.structures.bbox import bbox2roi

    features = model.extract_feat(batch)
    scores, deltas = model.rpn_head(features)
    proposals = top_proposals(model, scores, deltas, (int(batch.shape[-2]), int(batch.shape[-1])))
    roi_head = model.roi_head
    rois = bbox2roi(proposals)
    mask_rois = bbox2roi([boxes[: int(roi_head.test_cfg.max_per_img)] for boxes in proposals])
    boxes = [
        head(extract(features[: extract.num_inputs], rois))
        for extract, head in _stages(roi_head.bbox_roi_extractor, roi_head.bbox_head)
    ]
    masks = [
        head(extract(features[: extract.num_inputs], mask_rois))
        for extract, head in _stages(roi_head.mask_roi_extractor, roi_head.mask_head)
    ]
    return (*features, *scores, *deltas, *(c for c, _ in boxes), *(d for _, d in boxes), *masks)


@torch.no_grad()
def top_proposals(
    model: Any, scores: Sequence[Tensor], deltas: Sequence[Tensor], size: tuple[int, int]
) -> list[Tensor]:
    """Return per image the boxes (n, 4) of the highest-scored anchors, in image coordinates, cut at its border.

    `scores` (images, anchors, height, width) and `deltas` (images, 4 · anchors, height, width) are per level; `size` is
    the input's (height, width).
    """
    head = model.rpn_head
    anchors = torch.cat(
        head.prior_generator.grid_priors([level.shape[-2:] for level in scores], device=scores[0].device)
    )
    flat_scores = torch.cat([level.detach().permute(0, 2, 3, 1).flatten(1) for level in scores], dim=1)
    flat_deltas = torch.cat([level.detach().permute(0, 2, 3, 1).reshape(len(level), -1, 4) for level in deltas], dim=1)
    count = min(int(model.test_cfg.rpn.max_per_img), len(anchors))
    best = flat_scores.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return [
        head.bbox_coder.decode(anchors[kept], flat_deltas[image, kept], max_shape=size)
        for image, kept in enumerate(best)
    ]


def _several(head: Any) -> list[Any]:
    return list(head) if isinstance(head, nn.ModuleList) else [head]


def _stages(extract: Any, head: Any) -> list[tuple[Any, Any]]:
    return list(zip(_several(extract), _several(head), strict=True))
