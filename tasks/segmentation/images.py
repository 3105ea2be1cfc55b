"""Scenes with label maps, decoded by mmseg's data sets: kept in memory within a budget, and batched by size."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from vitptq.tasks.file_task import set_aside
from vitptq.tasks.foreign_files import stat_of
from vitptq.tasks.openmmlab import images
from vitptq.tasks.openmmlab.images import Item
from vitptq.tasks.openmmlab.models import Config
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


def evaluation_items(source: Any, pairs: Sequence[Pair], budget: int, workers: int) -> Iterator[Item]:
    """Yield every item in order; those of `keep` are not decoded again."""
    kept = keep(source, pairs, budget, workers)
    yield from kept
    if len(kept) < len(pairs):
        yield from map(_compact, images.items(source, range(len(kept), len(pairs)), workers=workers))


def keep(source: Any, pairs: Sequence[Pair], budget: int, workers: int) -> list[Item]:
    """Return the first decoded items, at most `budget` bytes in all, the same ones while no file changes.

    One set is kept per process: the cells of one task come one after the other.
    """
    key = _key(source, pairs, budget)
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = list(_within(map(_compact, images.items(source, range(len(pairs)), workers=workers)), budget))
    return _KEPT[key]


_KEPT: dict[str, list[Item]] = {}


def drop_kept() -> None:
    """Drop the items that `keep` returned."""
    _KEPT.clear()


def kept_set_aside() -> AbstractContextManager[None]:
    """Keep the items that `keep` returned out of this module inside."""
    return set_aside(_KEPT)


def _key(source: Any, pairs: Sequence[Pair], budget: int) -> str:
    stats = [(file, stat_of(file)) for pair in pairs for file in (pair.image, pair.labels)]
    listed = [(str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats]
    return json.dumps([listed, budget, repr(source.pipeline), source.metainfo["classes"]])


def _within(items: Iterable[Item], budget: int) -> Iterator[Item]:
    for item in items:
        budget -= item["inputs"].nbytes + item["data_samples"].gt_sem_seg.data.nbytes
        if budget < 0:
            return
        yield item


def _compact(item: Item) -> Item:
    """Return a copy of an item whose labels are uint8: mmseg makes 8 bytes of each.

    A copy, because what comes from a worker process holds a file descriptor.
    """
    from mmengine.structures import PixelData

    sample = item["data_samples"]
    sample.gt_sem_seg = PixelData(data=sample.gt_sem_seg.data.to(torch.uint8))
    return {"inputs": item["inputs"].clone(), "data_samples": sample}


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
