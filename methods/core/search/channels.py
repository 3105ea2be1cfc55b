"""The best of many weight candidates per output channel, each channel giving up its own losers.

Where every output channel has a scale of its own, its squared error depends on no other channel, so that a channel need
not wait until a candidate has lost everywhere, as in `race`. Nothing is estimated here either: a candidate that is
given up has, over some of the positions, lost more than another over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitptq.methods.core.model.operands import Conv2d
from vitptq.methods.core.search.candidate_losses import Candidates
from vitptq.methods.core.search.elimination import SHARES, SLACK, Best, numbers
from vitptq.methods.core.search.gram import FLOAT, by_channel, residual, unfolded
from vitptq.methods.core.search.objective import Objective, SquaredError, equal_blocks
from vitptq.methods.core.search.recording import Rows, Trace


@dataclass(frozen=True)
class ChannelRace:
    """Errors (G (X d - r))^2 of d = w^ - w, r = O - X w - b, for each output channel, summed over positions R."""

    weight: Tensor
    """(C, ...), C output channels of d inputs each"""
    x: Tensor
    """What each position reads, (R, d)."""
    rest: Tensor
    """r, (C, R)"""
    gradient: Tensor | None
    """G, (C, R)"""

    @staticmethod
    def suits(trace: Trace, objective: Objective, memory: int) -> bool:
        """Tell whether channels are judged apart and share their inputs, which take at most half of `memory`."""
        operator, groups = trace.operator, objective.groups
        if not isinstance(operator, Conv2d | Rows) or (isinstance(operator, Conv2d) and operator.groups > 1):
            return False
        if not isinstance(objective, SquaredError) or groups is None or equal_blocks(groups) != len(trace.first):
            return False
        positions = trace.output.numel() // len(trace.first)
        # each is there twice while positions are put in order
        return 2 * positions * (trace.first[0].numel() + 2 * len(trace.first)) * FLOAT <= memory // 2

    @staticmethod
    def of(trace: Trace) -> ChannelRace:
        """Return the race of a weight's candidates; the trace holds the input as it is to be used."""
        x, target = unfolded(trace, trace.second), by_channel(trace, trace.output)  # (n, 1, d, L), (n, 1, C, L)
        gradient = None if trace.gradient is None else _flat(by_channel(trace, trace.gradient))
        return ChannelRace(trace.first, _flat(x).T.contiguous(), _flat(residual(trace, x, target)), gradient)

    def best(self, candidates: Candidates, count: int, step: int, memory: int, guess: Tensor | None = None) -> Best:
        """Return the best of `count` candidates per channel; a step's tensors have about `step` values.

        `guess`, (C,) or (1,), names a candidate per channel that is likely to win. It runs first, over all positions,
        and those on which it loses most come first for the others.
        """
        channels = torch.arange(len(self.weight), device=self.x.device)
        leaders = torch.full_like(channels, count // 2) if guess is None else guess.expand_as(channels)
        # the changes of some channels, twice while they are picked from, beside the inputs: `suits`
        together = max(1, memory // 2 // (2 * count * self.x.shape[1] * FLOAT))
        losses = [
            self._only(some)._losses(self._changes(candidates, count, some, step), leaders[some], step)
            for some in channels.split(together)
        ]
        return Best.of(torch.cat(losses, dim=1))

    def _changes(self, candidates: Candidates, count: int, channels: Tensor, step: int) -> Tensor:
        """Return w^ - w (K, c, d) of all candidates for some channels."""
        places = torch.arange(count, device=channels.device).split(max(1, step // self.weight.numel()))
        return torch.cat([candidates(self.weight, some).sub_(self.weight)[:, channels].flatten(2) for some in places])

    def _losses(self, changes: Tensor, leaders: Tensor, step: int) -> Tensor:
        """Return the losses (K, C), infinite where a candidate was given up."""
        channels = torch.arange(len(leaders), device=leaders.device)
        by_position = self._errors(changes[leaders, channels], channels, slice(0, len(self.x)))
        ordered = self._ordered(_hardest_first(by_position))
        sums = by_position.new_zeros(changes.shape[:2], dtype=torch.float64)
        whole = torch.full_like(sums, torch.inf)
        whole[leaders, channels] = numbers(by_position.sum(1, dtype=torch.float64))
        alive = whole.isinf()
        alive[leaders, channels] = False
        start, positions = 0, len(self.x)
        for stop in sorted({max(1, round(share * positions)) for share in SHARES}):
            pairs = alive.nonzero(as_tuple=True)
            sums[pairs] += ordered._sums(changes, pairs, slice(start, stop), step)
            start = stop
            if stop == positions:
                whole[pairs] = sums[pairs]
                break
            alive &= sums <= whole.amin(0) * (1 + SLACK)
            favourites = _least(sums, alive)
            whole[favourites] = sums[favourites] + ordered._sums(changes, favourites, slice(stop, positions), step)
            alive[favourites] = False
            alive &= sums <= whole.amin(0) * (1 + SLACK)
        return whole

    def _sums(self, changes: Tensor, pairs: tuple[Tensor, ...], positions: slice, step: int) -> Tensor:
        """Return the errors (P,) of pairs (place, channel) of (P,) each, summed over some positions."""
        length = min(positions.stop - positions.start, step)
        found = [pairs[0].new_zeros(0, dtype=torch.float64)]
        for place, channel in zip(*(index.split(max(1, step // length)) for index in pairs), strict=True):
            change = changes.flatten(0, 1).index_select(0, place * changes.shape[1] + channel)
            parts = [
                self._errors(change, channel, slice(at, min(at + length, positions.stop))).sum(1, dtype=torch.float64)
                for at in range(positions.start, positions.stop, length)
            ]
            found.append(numbers(torch.stack(parts).sum(0)))
        return torch.cat(found)

    def _errors(self, change: Tensor, channels: Tensor, positions: slice) -> Tensor:
        """Return the errors (P, r) of changes (P, d) of the weights of `channels` (P,) on some positions."""
        error = (change @ self.x[positions].T).sub_(self.rest[:, positions].index_select(0, channels))
        if self.gradient is not None:
            error = error.mul_(self.gradient[:, positions].index_select(0, channels))
        return error.square_()

    def _only(self, channels: Tensor) -> ChannelRace:
        gradient = None if self.gradient is None else self.gradient[channels]
        return replace(self, weight=self.weight[channels], rest=self.rest[channels], gradient=gradient)

    def _ordered(self, order: Tensor) -> ChannelRace:
        gradient = None if self.gradient is None else self.gradient.index_select(1, order)
        return replace(self, x=self.x.index_select(0, order), rest=self.rest.index_select(1, order), gradient=gradient)


def _flat(x: Tensor) -> Tensor:
    """Arrange (n, 1, m, L) as (m, n L)."""
    return x.squeeze(1).transpose(0, 1).flatten(1)


def _hardest_first(losses: Tensor) -> Tensor:
    """Return the positions by falling loss (C, R) of the leaders, each channel counting by its share."""
    shares = losses / losses.sum(1, keepdim=True).clamp_min(torch.finfo(losses.dtype).tiny)
    return shares.sum(0).argsort(descending=True)


def _least(sums: Tensor, alive: Tensor) -> tuple[Tensor, ...]:
    """Return the pair (place, channel) of least sum in each channel that has a candidate alive."""
    least = sums.masked_fill(~alive, torch.inf).argmin(0)
    channels = alive.any(0).nonzero()[:, 0]
    return least[channels], channels
