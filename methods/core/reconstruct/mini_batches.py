"""The mini-batches of a training: drawn for many steps at once, so that one copy brings their numbers to a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitptq.methods.core.reconstruct.cached_tensors import CallRows
from vitptq.methods.core.reconstruct.plan import UnitPlan

AHEAD = 64
"""Steps that are drawn at once."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers of rows or of samples, on the CPU and on the device: looking them up makes no GPU wait for a copy."""

    here: Tensor
    there: Tensor

    @staticmethod
    def of(here: Tensor, device: torch.device) -> Numbers:
        """Return numbers that are on the CPU, and their copy on the device."""
        return Numbers(here, here.to(device))

    def on(self, device: torch.device) -> Tensor:
        """Return the numbers where a tensor on `device` can be looked up by them."""
        return self.here if device.type == "cpu" else self.there

    def split(self, sizes: Sequence[int]) -> Iterator[Numbers]:
        """Yield the numbers in parts of these sizes."""
        pairs = zip(self.here.split(list(sizes)), self.there.split(list(sizes)), strict=True)
        return (Numbers(here, there) for here, there in pairs)

    def __len__(self) -> int:
        return len(self.here)


@dataclass(frozen=True, eq=False)
class MiniBatch:
    """Some rows of a group of equal shapes."""

    group: int
    rows: Numbers
    samples: Numbers
    """The samples' numbers, in the order of the calibration images where the unit is called once per image."""

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self, count: int) -> Iterator[MiniBatch]:
        """Yield the mini-batch in `count` parts that are as equal as possible."""
        sizes = [len(part) for part in self.rows.here.tensor_split(count)]
        for rows, samples in zip(self.rows.split(sizes), self.samples.split(sizes), strict=True):
            yield MiniBatch(self.group, rows, samples)


def mini_batches(plan: UnitPlan, drawn: Sequence[tuple[int, Tensor]], device: torch.device) -> list[MiniBatch]:
    """Return mini-batches of (group, rows on the CPU); one copy brings all of their numbers to the device."""
    sizes = [len(rows) for _, rows in drawn]
    entries = [[entry for entry in plan.entries if entry.group == group] for group in range(len(plan.sizes))]
    samples = [sample_numbers(entries[group], rows) for group, rows in drawn]
    both = torch.cat([*(rows for _, rows in drawn), *samples])
    parts = list(Numbers.of(both, device).split([*sizes, *sizes]))
    pairs = zip(drawn, parts[: len(drawn)], parts[len(drawn) :], strict=True)
    return [MiniBatch(group, rows, numbers) for (group, _), rows, numbers in pairs]


def sample_numbers(entries: Sequence[CallRows], rows: Tensor) -> Tensor:
    """Return the samples' numbers of rows of the group with these entries."""
    starts = torch.tensor([entry.start for entry in entries])
    firsts = torch.tensor([entry.first for entry in entries])
    places = torch.searchsorted(starts, rows, right=True) - 1
    return firsts[places] + rows - starts[places]


def endless(
    plan: UnitPlan, batch: int, order: torch.Generator, device: torch.device, ahead: int = AHEAD
) -> Iterator[MiniBatch]:
    """Yield mini-batches of at most `batch` rows: a group, drawn by its size, and rows of it."""
    while True:
        yield from mini_batches(plan, [_draw(plan.sizes, batch, order) for _ in range(ahead)], device)


def _draw(sizes: Sequence[int], batch: int, order: torch.Generator) -> tuple[int, Tensor]:
    group = 0
    if len(sizes) > 1:
        group = int(torch.multinomial(torch.tensor(sizes, dtype=torch.float64), 1, generator=order))
    return group, torch.randperm(sizes[group], generator=order)[:batch]
