"""Cached inputs and targets of a unit: in the memory of the device, of the host, or in a file, within a budget."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

SHARE = 4
"""Device memory is used for a cache only where this many times as much is free: training needs the rest."""


def has_room(size: int, device: torch.device) -> bool:
    """Tell whether a GPU has room for `size` bytes beside what a training needs."""
    return size * SHARE < free_memory(device)


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a GPU, with those that torch holds in reserve and nothing uses."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


class CacheMemory:
    """Hands out tensors: on a GPU with room to spare there, else in host memory up to `budget` bytes, else in files.

    A file is unlinked as soon as it is mapped, so that nothing stays behind however the process ends.
    """

    def __init__(self, budget: int, device: torch.device) -> None:
        self.budget, self.device = budget, device
        self._held: dict[int, int] = {}
        self.spilled = 0
        """Bytes that went to files so far."""

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor."""
        size = math.prod(shape) * dtype.itemsize
        if self.device.type == "cuda" and has_room(size, self.device):
            return torch.empty(*shape, dtype=dtype, device=self.device)
        if sum(self._held.values()) + size <= self.budget:
            tensor = torch.empty(*shape, dtype=dtype)
            self._held[tensor.data_ptr()] = size
            return tensor
        self.spilled += size
        with tempfile.TemporaryDirectory(prefix="vitptq-cache-") as folder:
            path = str(Path(folder) / "cache")
            return torch.from_file(path, shared=True, size=math.prod(shape), dtype=dtype).reshape(*shape)

    def release(self, tensor: Tensor) -> None:
        """Count a tensor as gone; the caller drops it."""
        self._held.pop(tensor.data_ptr(), None)


@dataclass(frozen=True)
class CallRows:
    """Where the images of one call of a unit are: rows `start` to `stop` of a group of equal shapes."""

    group: int
    start: int
    stop: int
    batch: int
    """The calibration batch."""
    first: int
    """The number of its first image among all samples of the unit."""


class CachedTensors:
    """The tensors of one unit's input or output for all calibration images, joined group by group."""

    def __init__(self, memory: CacheMemory, sizes: Sequence[int]) -> None:
        """Prepare for groups of these many images."""
        self.memory, self.sizes = memory, sizes
        self.groups: list[list[Tensor]] = [[] for _ in sizes]

    @torch.no_grad()
    def write(self, entry: CallRows, tensors: Sequence[Tensor]) -> None:
        """Keep the tensors of one call."""
        group = self.groups[entry.group]
        if not group:
            shapes = [(self.sizes[entry.group], *x.shape[1:]) for x in tensors]
            group += [self.memory.empty(shape, x.dtype) for shape, x in zip(shapes, tensors, strict=True)]
        for kept, x in zip(group, tensors, strict=True):
            kept[entry.start : entry.stop].copy_(x)

    def read(self, entry: CallRows, device: torch.device) -> list[Tensor]:
        """Return the tensors of one call."""
        return [kept[entry.start : entry.stop].to(device) for kept in self.groups[entry.group]]

    def draw(self, group: int, rows: Callable[[torch.device], Tensor], device: torch.device) -> list[Tensor]:
        """Return a mini-batch: rows of a group; `rows(device)` gives their numbers where a tensor is."""
        return [kept.index_select(0, rows(kept.device)).to(device) for kept in self.groups[group]]

    def pick(self, places: Sequence[int]) -> CachedTensors:
        """Return the same samples with these of their tensors, in this order; no copy."""
        new = CachedTensors(self.memory, self.sizes)
        new.groups = [[group[place] for place in places] if group else [] for group in self.groups]
        return new

    def release(self) -> None:
        """Drop everything."""
        for group in self.groups:
            for tensor in group:
                self.memory.release(tensor)
        self.groups = [[] for _ in self.sizes]
