"""Two sides of an operator searched in turn: what each may become, and the rounds between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.search.candidate_losses import Candidates
from vitptq.methods.core.search.objective import Objective
from vitptq.methods.core.search.recording import SIDES, Trace
from vitptq.methods.core.search.side_search import Grouping, multiples, search


class Options(ABC):
    """The quantizers that one side of an operator may get."""

    alone = False
    """Whether the other side stays in float while these are compared."""

    def __init__(self, bits: int, count: int) -> None:
        self.bits, self.count = bits, count

    @abstractmethod
    def candidates(self) -> Candidates:
        """Return what computes the candidates of a tensor."""

    @abstractmethod
    def quantizer(self, choice: Tensor) -> Quantizer:
        """Return the quantizer of the chosen candidate of each group."""

    @abstractmethod
    def default(self) -> Quantizer:
        """Return the quantizer before any search."""

    def groups(self) -> tuple[Tensor | None, bool]:
        """Return which output channels are judged together, and whether heads are judged apart."""
        return None, False


class Scales(Options):
    """Multiples of the min-max scale of a symmetric grid, per group."""

    def __init__(self, bits: int, group: Grouping, x: Tensor, alpha: float, beta: float, count: int) -> None:
        super().__init__(bits, count)
        self.group, self.start = group, group.starts(x, bits)
        self.scales = multiples(self.start, alpha, beta, count)

    def candidates(self) -> Candidates:
        """Return the symmetric grids."""
        return self.group.candidates(self.scales, self.bits)

    def quantizer(self, choice: Tensor) -> Quantizer:
        """Return the symmetric quantizer with the chosen scales."""
        return self.group.quantizer(self.scales.gather(0, choice[None])[0], self.bits)

    def default(self) -> Quantizer:
        """Return the min-max scale."""
        return self.group.quantizer(self.start, self.bits)

    def groups(self) -> tuple[Tensor | None, bool]:
        """Return the groups of output channels (of a weight's rows), or heads."""
        return self.group.groups if self.group.axis == 0 else None, self.group.granularity == "head"


def alternate(
    trace: Trace, options: Sequence[Options], objective: Callable[[int], Objective], rounds: int, memory: int
) -> list[Quantizer]:
    """Return the quantizers of both sides: in each round the first is searched with the second fixed, then the second.

    `objective` judges side 0 or 1. A side whose counterpart is what it was at this side's last search is not searched
    again: the result would be the same.
    """
    tensors = (trace.first, trace.second)
    current = [option.default() for option in options]
    chosen: list[Tensor | None] = [None, None]
    met: list[Tensor | None] = [None, None]  # the other side's choice at the last search
    for _ in range(rounds):
        for i, option in enumerate(options):
            against = None if option.alone else chosen[1 - i]
            before = chosen[i]
            if before is not None and _same(against, met[i]):
                continue
            other = tensors[1 - i] if option.alone else current[1 - i](tensors[1 - i])
            best = search(trace, SIDES[i], other, option.count, option.candidates(), objective(i), memory, before)
            chosen[i], met[i] = best.place, against
            current[i] = option.quantizer(best.place)
    return current


def _same(one: Tensor | None, two: Tensor | None) -> bool:
    return one is two or (one is not None and two is not None and torch.equal(one, two))
