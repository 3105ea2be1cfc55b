"""The best of many candidates without computing all of every loss: a candidate ends where it can no longer win.

Losses are sums over rows of terms that are never negative. So a candidate whose sum over some of the rows already
exceeds another's whole sum has lost, and the rest of its rows is not computed. Nothing is estimated: the winner is the
one of a loop over everything, whatever the rows are and in whichever order they come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the rows behind which candidates are given up."""
SLACK = 1e-5
"""How far a partial sum must exceed a whole one, relatively: more than rounding can put between two equal sums."""
STEP = 2**20
"""Values of a step's largest tensor: what a core's cache holds is worked on several times faster than what it does not
(docs/performance.md). A smaller memory budget makes it less."""
GPU_STEP = 2**26
"""The same on a GPU, which needs much at once."""


class CandidateLosses(ABC):
    """Candidates and rows; every candidate has a loss in every group."""

    device: torch.device
    rows: int
    """The rows that losses are summed over."""
    groups: int = 1
    """The groups that each have a winner."""
    size: int
    """Values that one candidate takes on one row."""
    fewest: int = 1
    """The rows below which a candidate costs hardly less than on so many."""

    @abstractmethod
    def losses(self, places: Tensor, rows: slice) -> Tensor:
        """Return the losses (k, r, groups), none negative, of the candidates `places` (k,) on some of the rows.

        `places` is on the CPU.
        """

    @abstractmethod
    def ordered(self, order: Tensor) -> Self:
        """Return the same with the rows in the order `order` (rows,)."""


@dataclass(frozen=True)
class Best:
    """The winner of each group, shape (groups,), and its loss; both on the CPU, where decisions are taken."""

    place: Tensor
    loss: Tensor

    @staticmethod
    def of(losses: Tensor) -> Best:
        """Return the first least of losses (count, groups)."""
        losses = numbers(losses).cpu()
        least, _ = losses.min(dim=0)
        # argmin alone does not promise the first of equals
        return Best((losses == least).int().argmax(dim=0), least)


def eliminate(losses: CandidateLosses, count: int, step: int = STEP, guess: Tensor | None = None) -> Best:
    """Return the best of `count` candidates in each group.

    `guess` (any shape) names candidates that are likely to win (the winners of an earlier round, say); they run first,
    over all rows, and the rows on which they lose most come first for the others. However many there are, a GPU has
    to wait twice for each share of the rows.
    """
    if count * losses.rows * losses.size <= step:
        everything = losses.losses(torch.arange(count), slice(0, losses.rows))
        return Best.of(everything.sum(1, dtype=torch.float64))
    leaders = torch.tensor([count // 2]) if guess is None else guess.unique()
    by_row = _run(losses, leaders, slice(0, losses.rows), step, keep_rows=True)  # (k, rows, groups)
    losses = losses.ordered(_hardest_first(by_row))
    sums = torch.zeros(count, losses.groups, dtype=torch.float64)
    whole = torch.full_like(sums, torch.inf)
    whole[leaders] = numbers(by_row.sum(1, dtype=torch.float64)).cpu()
    alive = torch.ones(count, dtype=torch.bool)
    alive[leaders] = False
    start = 0
    for stop in _stops(losses):
        active = alive.nonzero()[:, 0]
        if not len(active):
            break
        sums[active] += _run(losses, active, slice(start, stop), step)
        start = stop
        if stop == losses.rows:
            whole[active] = sums[active]
            break
        alive &= _may_win(sums, whole)
        favourites = sums.masked_fill(~alive[:, None], torch.inf).argmin(dim=0).unique()
        favourites = favourites[alive[favourites]]
        if len(favourites):
            whole[favourites] = sums[favourites] + _run(losses, favourites, slice(stop, losses.rows), step)
        alive[favourites] = False
        alive &= _may_win(sums, whole)
    return Best.of(whole)


def _stops(losses: CandidateLosses) -> list[int]:
    """Return the numbers of rows behind which candidates are given up."""
    return sorted({min(losses.rows, max(losses.fewest, round(share * losses.rows))) for share in SHARES})


def _may_win(sums: Tensor, whole: Tensor) -> Tensor:
    """Return which candidates are not beaten in every group yet, shape (count,)."""
    return ~(sums > whole.amin(dim=0) * (1 + SLACK)).all(dim=1)


def _hardest_first(losses: Tensor) -> Tensor:
    """Return the rows by falling loss of the leaders, (k, rows, groups), each group counting by its share."""
    shares = losses / losses.sum(dim=1, keepdim=True).clamp_min(torch.finfo(losses.dtype).tiny)
    return shares.sum((0, 2)).argsort(descending=True)


def _run(losses: CandidateLosses, places: Tensor, rows: slice, step: int, *, keep_rows: bool = False) -> Tensor:
    """Return the losses of some candidates on some rows.

    Sums in float64 (k, groups), on the CPU, or row by row (k, r, groups), where they were computed.
    """
    fits = max(1, step // losses.size)  # (candidate, row) pairs of a step
    length = min(rows.stop - rows.start, fits)
    together = max(1, fits // max(1, length))
    parts = []
    for some in places.split(together):
        pieces = []
        for at in range(rows.start, rows.stop, length):
            found = losses.losses(some, slice(at, min(at + length, rows.stop)))
            pieces.append(found if keep_rows else numbers(found.sum(dim=1, dtype=torch.float64)))
        parts.append(torch.cat(pieces, dim=1) if keep_rows else torch.stack(pieces).sum(0))
    return torch.cat(parts) if keep_rows else torch.cat(parts).cpu()


def numbers(losses: Tensor) -> Tensor:
    """Return losses of which one that is no number is infinite: it must not win."""
    return losses.nan_to_num(nan=torch.inf, posinf=torch.inf)
