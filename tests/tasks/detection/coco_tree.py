"""A small tree in COCO's layout and small detectors with random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from vitptq.bench.contracts.task import ModelCard
from vitptq.tasks.detection import evidence, inference
from vitptq.tasks.detection.coco import Coco
from vitptq.tasks.openmmlab import models

CLASSES = ("circle", "square", "star")
SIDE = 64
SMALL_SCALE = (SIDE, SIDE)

_STAGE = {
    "type": "Shared2FCBBoxHead", "in_channels": 8, "fc_out_channels": 16, "roi_feat_size": 3, "num_classes": 3,
    "reg_class_agnostic": False,
    "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [0.1, 0.1, 0.2, 0.2]},
    "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False},
    "loss_bbox": {"type": "L1Loss"},
}  # fmt: skip


def extractor(size: int) -> dict[str, Any]:
    return {
        "type": "SingleRoIExtractor", "out_channels": 8, "featmap_strides": [4, 8, 16, 32],
        "roi_layer": {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0},
    }  # fmt: skip


def detector_config(cascade: bool = False) -> dict[str, Any]:
    """Return Mask R-CNN or Cascade Mask R-CNN with the smallest Swin."""
    return {
        "type": "CascadeRCNN" if cascade else "MaskRCNN",
        "data_preprocessor": {
            "type": "DetDataPreprocessor", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
            "bgr_to_rgb": True, "pad_mask": True, "pad_size_divisor": 32,
        },
        "backbone": {
            "type": "SwinTransformer", "embed_dims": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2),
            "window_size": 4, "out_indices": (0, 1, 2, 3),
        },
        "neck": {"type": "FPN", "in_channels": [8, 16, 32, 64], "out_channels": 8, "num_outs": 5},
        "rpn_head": {
            "type": "RPNHead", "in_channels": 8, "feat_channels": 8,
            "anchor_generator": {
                "type": "AnchorGenerator", "scales": [4], "ratios": [0.5, 1.0], "strides": [4, 8, 16, 32, 64],
            },
            "bbox_coder": {"type": "DeltaXYWHBBoxCoder"},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True}, "loss_bbox": {"type": "L1Loss"},
        },
        "roi_head": {
            "type": "CascadeRoIHead" if cascade else "StandardRoIHead",
            **({"num_stages": 3, "stage_loss_weights": [1, 0.5, 0.25]} if cascade else {}),
            "bbox_roi_extractor": extractor(3),
            "bbox_head": [_STAGE] * 3 if cascade else _STAGE,
            "mask_roi_extractor": extractor(6),
            "mask_head": {
                "type": "FCNMaskHead", "num_convs": 1, "in_channels": 8, "conv_out_channels": 8, "num_classes": 3,
                "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True},
            },
        },
        "train_cfg": None,
        "test_cfg": {
            "rpn": {
                "nms_pre": 100, "max_per_img": 50, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0,
            },
            "rcnn": {
                "score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 20,
                "mask_thr_binary": 0.5,
            },
        },
    }  # fmt: skip


def detector(cascade: bool = False) -> nn.Module:
    """Return a detector with seeded random weights, wide enough apart that images differ."""
    torch.manual_seed(0)
    model = models.build(detector_config(cascade), "mmdet")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and not name.startswith("backbone"):
                parameter.mul_(3)
    return model


class SmallCoco(Coco):
    """The full edition's code on the small tree."""

    edition = "small"

    def __init__(
        self, root: Path, *, cascade: bool = False, images: int = 4, objects: int | None = None, **others: Any
    ) -> None:
        super().__init__(
            root=root,
            images=images,
            objects=objects,
            training_images=3,
            lists=lambda seed: ["2", "0", "1"],
            batch_size=2,
            workers=0,
            **others,
        )
        self.scale, self.size = SMALL_SCALE, SMALL_SCALE
        self._cascade = cascade

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    def models(self) -> Mapping[str, ModelCard]:
        return {"small": ModelCard("small", "swin", "0" * 64, {"box_ap": 0.0}, 1.0)}

    def config(self, model: str) -> Mapping[str, Any]:
        self.card(model)
        return detector_config(self._cascade)

    def checkpoint_file(self, model: str) -> Path:
        return self.checkpoints / f"{model}.pth"

    def checkpoint_digest(self, model: str) -> str | None:
        return None

    def missing_checkpoint(self, model: str) -> str:
        return f"make {self.checkpoint_file(model)}"

    def float_model(self, model: str) -> nn.Module:
        return detector(self._cascade)


def write(root: Path, images: int = 4, seed: int = 0) -> Path:
    """Write a tree with `images` evaluation and 3 training images, of two sizes, and return its folder."""
    folder = root / "coco"
    generator = np.random.default_rng(seed)
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 7 * label + 3, "name": name} for label, name in enumerate(CLASSES)],
    }
    for split, first, count in (("train2017", 1, 3), ("val2017", 101, images)):
        (folder / split).mkdir(parents=True)
        for number in range(count):
            width, height = (SIDE, SIDE) if number % 2 else (SIDE, SIDE // 2)
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            name = f"{first + number:012d}.jpg"
            Image.fromarray(pixels).save(folder / split / name)
            if split == "val2017":
                content["images"].append({"id": first + number, "file_name": name, "height": height, "width": width})
                content["annotations"] += objects(first + number, width, height, number, generator)
    (folder / "annotations").mkdir()
    for number, annotation in enumerate(content["annotations"], start=1):
        annotation["id"] = number
    save(folder, content)
    return folder


def objects(image: int, width: int, height: int, number: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Return a few annotations: polygons, run lengths, and one crowd."""
    found = []
    for label in range(3):
        x, y = generator.uniform(0, width / 2), generator.uniform(0, height / 2)
        w, h = generator.uniform(8, width / 2), generator.uniform(8, height / 2)
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        polygons: Any = [[round(corner, 2) for corner in corners]]
        crowd = label == 2 and number == 1
        runs = {"size": [height, width], "counts": [height * 5 + 2, 12, height * width - height * 5 - 14]}
        found.append({
            "image_id": image, "category_id": 7 * label + 3,
            "bbox": [round(x, 2), round(y, 2), round(w, 2), round(h, 2)],
            "area": round(w * h, 3), "iscrowd": int(crowd), "segmentation": runs if crowd else polygons,
        })  # fmt: skip
    return found


def annotation_file(folder: Path) -> Path:
    return folder / "annotations" / "instances_val2017.json"


def load(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(annotation_file(folder).read_text())
    return content


def save(folder: Path, content: object) -> None:
    annotation_file(folder).write_text(json.dumps(content))


CPU = torch.device("cpu")
Arrays = dict[str, np.ndarray]


def ignore(_done: int, _total: int) -> None:
    pass


def guesses(task: SmallCoco, seed: int = 0) -> list[SimpleNamespace]:
    """Return predictions beside the ground truth, in the form of mmdet's results; some have another class."""
    generator = np.random.default_rng(seed)
    truth = task.annotations()
    results = []
    for image, (height, width) in enumerate(truth.sizes.tolist()):
        own = truth.truth["truth_images"] == image
        corners = np.repeat(truth.truth["truth_boxes"][own], 4, axis=0)
        boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
        boxes += generator.normal(0, 1.5, boxes.shape)
        labels = np.repeat(truth.truth["truth_labels"][own], 4)
        labels = np.where(generator.random(len(labels)) < 0.8, labels, generator.integers(0, 3, len(labels)))
        found = torch.zeros(len(boxes), height, width, dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(found, boxes.round().astype(int).clip(0), strict=True):
            mask[top:bottom, left:right] = True
        scores = torch.from_numpy(generator.random(len(boxes)).round(1)).float()  # ties
        results.append(
            SimpleNamespace(
                bboxes=torch.from_numpy(boxes).float(), labels=torch.from_numpy(labels), scores=scores, masks=found
            )
        )
    return results


def guessed(task: SmallCoco, seed: int = 0) -> Arrays:
    found = [inference.detections(result) for result in guesses(task, seed)]
    return evidence.evidence(task.annotations(), found)
