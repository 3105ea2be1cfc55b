"""Batches of decoded images: equal sizes together, normalised and padded by the model's data preprocessor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from vitptq.tasks.openmmlab.images import Item


def grouped(found: Iterable[Item], *, divisor: int = 1) -> list[list[Item]]:
    """Return the items by padded size: sizes in the order of their first item, the order within a size kept."""
    groups: dict[tuple[int, int], list[Item]] = {}
    for item in found:
        groups.setdefault(padded_size(item, divisor), []).append(item)
    return list(groups.values())


def equal_batches(found: Iterable[Item], *, size: int, divisor: int = 1) -> Iterator[list[Item]]:
    """Yield the items in order, up to `size` at a time, consecutive ones of equal padded size together."""
    batch: list[Item] = []
    for item in found:
        if batch and (len(batch) == size or padded_size(item, divisor) != padded_size(batch[0], divisor)):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def padded_size(item: Item, divisor: int = 1) -> tuple[int, int]:
    """Return (height, width) of the item once its sides are padded to multiples of `divisor`."""
    height, width = item["inputs"].shape[-2:]
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def prepared(prepare: nn.Module, batch: Sequence[Item]) -> tuple[Tensor, list[Any]]:
    """Return what the model reads for items of one padded size: (B, 3, H, W) floats on the device, and their samples.

    The samples are new ones with the items' meta information, so that predictions written to them do not stay.
    """
    samples = [type(item["data_samples"])(metainfo=item["data_samples"].metainfo) for item in batch]
    data = prepare({"inputs": [item["inputs"] for item in batch], "data_samples": samples}, False)
    return data["inputs"], data["data_samples"]


def calibration_batches(
    found: Iterable[Item], prepare: nn.Module, *, batch_size: int, divisor: int = 1
) -> tuple[Tensor, ...]:
    """Return the items as (B, 3, H, W) tensors of equal padded size, at most `batch_size` images each, in host memory.

    Sizes come in the order of their first item, items of one size in their order.
    """
    return tuple(
        prepared(prepare, group[start : start + batch_size])[0].cpu()
        for group in grouped(found, divisor=divisor)
        for start in range(0, len(group), batch_size)
    )
