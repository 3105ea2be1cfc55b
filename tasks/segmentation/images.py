"""Scenes with label maps, decoded by mmseg's data sets, and batched by size."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitptq.tasks.decoding import ImageSource
from vitptq.tasks.openmmlab import images
from vitptq.tasks.openmmlab.configs import Config
from vitptq.tasks.openmmlab.images import Item
from vitptq.tasks.segmentation.label_maps import Pair

WAITING = 64
"""Images that may wait for others of their size."""
PIXELS = 2**23
"""Pixels of one batch at the label maps' size, so that the logits of 150 classes stay near 5 GB on the device."""


def dataset(config: Config, folder: Path, split: str) -> Any:
    """Return mmseg's data set of one split in ADE20K's layout."""
    prefix = {"img_path": str(folder / "images" / split), "seg_map_path": str(folder / "annotations" / split)}
    with warnings.catch_warnings():
        # mmseg 1.4.2 warns of an argument that its own configurations use.
        warnings.filterwarnings("ignore", message=".reduce_zero_label. will be deprecated")
        return images.dataset({**config, "data_prefix": prefix, "test_mode": True}, "mmseg")


def source(name: str, folder: Path, pairs: Sequence[Pair], config: Config, pixels: int, decoders: int) -> ImageSource:
    """Return the evaluation images with their label maps, as mmseg's data set of `config` reads them.

    `pixels` are those of all label maps.
    """
    mean_labels = pixels // max(1, len(pairs))
    files = [(pair.image, pair.labels) for pair in pairs]
    return ImageSource(
        name=name, root=folder, files=files, decoders=decoders,
        reading=json.loads(json.dumps(config)), bytes_each=bytes_each(config["pipeline"]) + mean_labels,
        reader=lambda: images.reader(dataset(config, folder, "validation")),
    )  # fmt: skip


def bytes_each(pipeline: Sequence[Config]) -> int:
    """Return the bytes of an image that fills the pipeline's scale."""
    sides = next((step["scale"] for step in pipeline if step["type"] == "Resize"), (0, 0))
    return 3 * int(np.prod(sides))


def equal_sized(items: Iterable[Item], batch_size: int) -> Iterator[dict[int, Item]]:
    """Yield batches of items by position; the images of a batch have one size, and so have their label maps.

    A batch is full with `batch_size` images or `PIXELS`. At most `WAITING` images wait for others of their size.
    """
    waiting: dict[tuple[int, ...], dict[int, Item]] = {}
    for position, item in enumerate(items):
        size = (*item["inputs"].shape[-2:], *item["data_samples"].ori_shape)
        batch = waiting.setdefault(size, {})
        batch[position] = item
        if len(batch) >= min(batch_size, PIXELS // max(size[0] * size[1], size[2] * size[3])):
            yield waiting.pop(size)
        elif sum(map(len, waiting.values())) >= WAITING:
            yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
    yield from waiting.values()
