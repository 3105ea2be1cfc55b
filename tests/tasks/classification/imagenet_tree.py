"""A small tree of real JPEG files in ImageNet's layout, and a small timm model for it."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import nn

from vitptq.bench.contracts.task import ModelCard
from vitptq.tasks.classification.imagenet import ImageNet

CPU = torch.device("cpu")
TAG = "test_vit.r160_in1k"
CARDS = {TAG: ModelCard(TAG, "vit", TAG, {"top1": 50.0}, tolerance=100.0)}
CLASSES = 3
TRAIN, VAL = 4, 3
WNIDS = ("n01440764", "n02102040", "n03000684")


def no_network(tag: str) -> Path:
    raise FileNotFoundError(f"no network for {tag}")


def rows(_seed: int) -> list[str]:
    return ["2/1", "0/3", "1/0", "0/0", "2/2", "1/3"]


def save_checkpoint(path: Path, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(3)
    model = timm.create_model(TAG, pretrained=False, num_classes=classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return model


def task(root: Path, **changes: object) -> ImageNet:
    options = {
        "class_names": WNIDS,
        "models": CARDS,
        "classes": CLASSES,
        "images": CLASSES * VAL,
        "training_images": CLASSES * TRAIN,
        "lists": rows,
        "download": no_network,
    }
    return ImageNet(root=root, **{**options, "batch_size": 4, "workers": 0, **changes})  # type: ignore[arg-type]


def ignore(_done: int, _total: int) -> None:
    pass
