"""A few image files of different sizes, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from vitptq.tasks.decoding import ImageSource
from vitptq.tasks.openmmlab import images

CPU = torch.device("cpu")
PREPROCESSOR = {
    "type": "DetDataPreprocessor",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True,
    "pad_size_divisor": 32,
}


def folder(files: list[Path]) -> images.ImageList:
    steps = [{"type": "LoadImageFromFile"}, {"type": "PackDetInputs", "meta_keys": ("img_path", "img_shape")}]
    return images.ImageList(files, steps, "mmdet")


def source(files: list[Path], order: Sequence[int], decoders: int = 0) -> ImageSource:
    return ImageSource(
        name="mmdet", root=files[0].parent, files=[(files[i],) for i in order], reading="test", decoders=decoders,
        bytes_each=10**8, reader=lambda: images.reader(folder(files), order),
    )  # fmt: skip


def items(files: list[Path], order: Sequence[int]) -> list[images.Item]:
    return [images.as_item(images.decode(folder(files), index), "mmdet") for index in order]
