"""Small trees in ADE20K's layout and a small UPerNet with a Swin, for the tests of segmentation."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from vitptq.tasks.openmmlab import models
from vitptq.tasks.segmentation.ade20k import Ade20k
from vitptq.tasks.segmentation.ade20k_models import Published

CLASSES = 5
SIZES = ((40, 56), (56, 40), (40, 56), (32, 48), (40, 56))
"""(height, width) of the images of a split, again and again."""


def write_tree(folder: Path, *, training: int = 6, validation: int = 5, classes: int = CLASSES) -> Path:
    """Write images and label maps as the challenge's archive has them; label 0 and 255 occur, the last class never."""
    random = np.random.default_rng(0)
    for split, short, count in (("training", "train", training), ("validation", "val", validation)):
        for number in range(count):
            height, width = SIZES[number % len(SIZES)]
            name = f"ADE_{short}_{number + 1:08d}"
            pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            labels = random.integers(0, classes, (height // 8, width // 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            labels[:2] = 255
            save(folder / "images" / split / f"{name}.jpg", pixels)
            save(folder / "annotations" / split / f"{name}.png", labels)
    return folder


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def config(classes: int = CLASSES, scale: tuple[int, int] = (128, 32)) -> dict[str, Any]:
    """Return model and test data set as OpenMMLab's configurations have them, small."""
    head = {
        "dropout_ratio": 0.1,
        "num_classes": classes,
        "norm_cfg": {"type": "SyncBN", "requires_grad": True},
        "align_corners": False,
    }
    model = {
        "type": "EncoderDecoder",
        "data_preprocessor": {
            "type": "SegDataPreProcessor",
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
            "bgr_to_rgb": True,
            "pad_val": 0,
            "seg_pad_val": 255,
            "size": (32, 32),
        },
        "pretrained": None,
        "backbone": {
            "type": "SwinTransformer",
            "embed_dims": 8,
            "patch_size": 2,
            "strides": (2, 2, 2, 2),
            "window_size": 4,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "init_cfg": {"type": "Pretrained", "checkpoint": "https://nowhere.invalid/swin.pth"},
        },
        "decode_head": {
            **head,
            "type": "UPerHead",
            "in_channels": [8, 16, 32, 64],
            "in_index": [0, 1, 2, 3],
            "pool_scales": (1, 2),
            "channels": 8,
        },
        "auxiliary_head": {**head, "type": "FCNHead", "in_channels": 32, "in_index": 2, "channels": 8, "num_convs": 1},
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }
    dataset = {
        "type": "BaseSegDataset",
        "metainfo": {"classes": tuple(f"class {number}" for number in range(classes))},
        "reduce_zero_label": True,
        "data_root": "data/elsewhere",
        "data_prefix": {"img_path": "images/validation", "seg_map_path": "annotations/validation"},
        "pipeline": [
            {"type": "LoadImageFromFile"},
            {"type": "Resize", "scale": scale, "keep_ratio": True},
            {"type": "LoadAnnotations", "reduce_zero_label": True},
            {"type": "PackSegInputs"},
        ],
    }
    return {"model": model, "test_dataloader": {"dataset": dataset}}


CPU = torch.device("cpu")
NAME = "upernet_tiny"
TRAINING, VALIDATION = 6, 5
Disk = tuple[Path, Published]


def positions(_seed: int) -> list[str]:
    return ["3", "0", "5", "1"]


def task(disk: Disk, **changes: Any) -> Ade20k:
    root, entry = disk
    options = {
        "models": {NAME: entry},
        "classes": CLASSES,
        "images": VALIDATION,
        "training_images": TRAINING,
        "lists": positions,
        "configs": lambda _name: config(),
        "batch_size": 2,
        "workers": 0,
    }
    return Ade20k(root=root, **{**options, **changes})


def save_checkpoint(folder: Path, classes: int = CLASSES) -> Published:
    """Save an untrained model in a file that OpenMMLab would name like this."""
    torch.manual_seed(5)
    model = models.build(config(classes)["model"], "mmseg")
    folder.mkdir(parents=True, exist_ok=True)
    unnamed = folder / "unnamed.pth"
    torch.save({"meta": {"epoch": 1}, "state_dict": model.state_dict()}, unnamed)
    digest = hashlib.sha256(unnamed.read_bytes()).hexdigest()[:8]
    entry = Published("swin", "swin/tiny", f"swin/tiny/upernet_tiny_20260101_000000-{digest}.pth", 40.0)
    unnamed.rename(folder / entry.file)
    return entry


def evaluated(ade20k: Ade20k, model: nn.Module) -> dict[str, np.ndarray]:
    return ade20k.evaluate(model, NAME, CPU, lambda _done, _total: None)
