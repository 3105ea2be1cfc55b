"""Scores of a detector or segmenter on scenes in memory: a look at how a training goes, without files."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import nn

from vitptq.tasks.mini.data.compose_scene import SIDE, Scene
from vitptq.tasks.mini.data.material import CLASSES
from vitptq.tasks.mini.data.scenes import SEGMENT_CLASSES, coco_objects, encode_mask
from vitptq.tasks.mini.models.scene_models import Task
from vitptq.tasks.mini.training.model_input import model_input
from vitptq.tasks.mini.training.scene_batches import detection_samples, segmentation_samples


def scores_on(
    model: nn.Module, task: Task, scenes: tuple[Scene, ...], device: torch.device, batch: int = 50
) -> dict[str, float]:
    """Return box and mask AP, or mIoU, in percent, of a model in eval mode."""
    score = {"coco": _detection_scores, "ade20k": _segmentation_scores}[task]
    with torch.inference_mode():
        return score(model, [scenes[start : start + batch] for start in range(0, len(scenes), batch)], device)


def _detection_scores(model: Any, groups: list[tuple[Scene, ...]], device: torch.device) -> dict[str, float]:
    found: list[dict[str, Any]] = []
    image_id = 0
    for group in groups:
        samples = detection_samples(group, device)
        for sample in model.predict(model_input(np.stack([scene.image for scene in group]), device), samples):
            image_id += 1
            found.extend(_detections(sample.pred_instances.cpu().numpy(), image_id))
    if not found:
        return {"box_ap": 0.0, "mask_ap": 0.0}
    truth = _truth([scene for group in groups for scene in group])
    return {"box_ap": _average_precision(truth, found, "bbox"), "mask_ap": _average_precision(truth, found, "segm")}


def _detections(instances: Any, image_id: int) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image_id,
            "category_id": int(label) + 1,
            "score": float(score),
            "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
            "segmentation": encode_mask(mask),
        }
        for label, score, (left, top, right, bottom), mask in zip(
            instances.labels, instances.scores, instances.bboxes, instances.masks, strict=True
        )
    ]


def _truth(scenes: list[Scene]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, start=1):
        annotations += coco_objects(scene, image_id, first=len(annotations) + 1)
    return {
        "images": [{"id": image_id, "height": SIDE, "width": SIDE} for image_id in range(1, len(scenes) + 1)],
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": str(label)} for label in range(CLASSES)],
    }


def _average_precision(truth: dict[str, Any], found: list[dict[str, Any]], kind: str) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(StringIO()):
        wanted = COCO()
        wanted.dataset = truth
        wanted.createIndex()
        # loadRes would take the areas of boxes from the masks.
        detections = [
            {key: value for key, value in row.items() if kind == "segm" or key != "segmentation"} for row in found
        ]
        evaluation = COCOeval(wanted, wanted.loadRes(detections), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100.0 * float(evaluation.stats[0])


def _segmentation_scores(model: Any, groups: list[tuple[Scene, ...]], device: torch.device) -> dict[str, float]:
    classes = len(SEGMENT_CLASSES)
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    for group in groups:
        samples = segmentation_samples(group, device)
        wanted = torch.stack([sample.gt_sem_seg.data for sample in samples])
        predicted = model.predict(model_input(np.stack([scene.image for scene in group]), device), samples)
        labels = torch.stack([sample.pred_sem_seg.data for sample in predicted])
        confusion += torch.bincount((wanted * classes + labels).flatten(), minlength=classes * classes)
    table = confusion.view(classes, classes).double()
    hits = table.diag()
    return {"miou": 100.0 * float((hits / (table.sum(0) + table.sum(1) - hits)).nanmean())}
