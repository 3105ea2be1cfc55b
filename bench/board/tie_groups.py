"""Which rows of one bit width the paired tests tell apart: ranks as intervals, and groups that tie.

All pairs are tested and corrected together (Holm). A row's rank is 1 plus the rows shown to be better, up to the number
of rows less those shown to be worse: that needs no order between rows which are not separated. Group A is the highest
row with all that are not shown to be worse than it; B the highest of the rest with all of the rest that are not shown
to be worse than that, and so on. So a group is defined against its highest row: two others of it may well differ.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from vitptq.bench.board import seed_spread
from vitptq.bench.board.paired_difference import Difference, Draw, difference, verdict
from vitptq.bench.board.seed_spread import SeedSpread


@dataclass(frozen=True, slots=True)
class RankInterval:
    """The ranks that the data allow a row."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"


@dataclass(frozen=True)
class TieGroups:
    """The rows of one family of comparisons, by id, and what the tests say."""

    rows: tuple[str, ...]
    """Higher scores first."""
    differences: Mapping[tuple[str, str], Difference]
    """Of the earlier row to the later one; pairs that cannot be compared are missing, and never separated."""
    spread: SeedSpread | None = None
    """Pooled over rows whose scores vary alike with the draw."""

    def rank(self, row: str) -> RankInterval | None:
        """Return the ranks of a row; None for a row that is not of this family."""
        if row not in self.rows:
            return None
        better = sum((other, row) in self._better for other in self.rows)
        worse = sum((row, other) in self._better for other in self.rows)
        return RankInterval(1 + better, len(self.rows) - worse)

    def tied(self, one: str, two: str) -> bool:
        """Tell whether two rows were compared and not separated."""
        compared = (one, two) in self.differences or (two, one) in self.differences
        return compared and not {(one, two), (two, one)} & self._better

    def verdict(self, one: str, two: str) -> str:
        """Say whether a row is shown to be better or worse than another; empty where they were not compared."""
        if self.tied(one, two):
            return "not separated"
        if (one, two) in self._better:
            return "better"
        return "worse" if (two, one) in self._better else ""

    @cached_property
    def letters(self) -> dict[str, str]:
        """Return the letter of each row's group."""
        found: dict[str, str] = {}
        for group in itertools.count():
            rest = [row for row in self.rows if row not in found]
            if not rest:
                return found
            found |= {row: letter(group) for row in rest if (rest[0], row) not in self._better}
        return found

    @cached_property
    def _better(self) -> frozenset[tuple[str, str]]:
        """Return (better row, worse row) of each separated pair."""
        return frozenset(_separated(self.differences))

    @property
    def one_draw(self) -> bool:
        """Tell whether some comparison rests on one calibration draw."""
        return any(found.seeds == 1 for found in self.differences.values())


def tie_groups(rows: Sequence[tuple[str, Mapping[int, Draw]]]) -> TieGroups:
    """Compare all pairs of `rows` (id, draws by seed), which come with higher scores first."""
    spread = seed_spread.pooled({row: {seed: d.score for seed, d in draws.items()} for row, draws in rows})
    pairs = {
        (one, two): difference(ours, theirs, spread if spread and spread.covers(one, two) else None)
        for (one, ours), (two, theirs) in itertools.combinations(rows, 2)
    }
    known = {pair: found for pair, found in pairs.items() if found is not None}
    return TieGroups(tuple(row for row, _ in rows), known, spread)


def within(groups: TieGroups, rows: Sequence[str]) -> TieGroups:
    """Return the groups of some of the rows among themselves: a smaller family, corrected anew."""
    kept = {pair: found for pair, found in groups.differences.items() if set(pair) <= set(rows)}
    return TieGroups(tuple(row for row in groups.rows if row in rows), kept, groups.spread)


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values of one family, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p), 0.0
    for step, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - step) * p[place]))
        adjusted[place] = highest
    return adjusted


def letter(group: int) -> str:
    """Return A to Z, then AA, AB ...

    >>> letter(0), letter(25), letter(26)
    ('A', 'Z', 'AA')
    """
    head, last = divmod(group, len(string.ascii_uppercase))
    return (letter(head - 1) if head else "") + string.ascii_uppercase[last]


def _separated(differences: Mapping[tuple[str, str], Difference]) -> list[tuple[str, str]]:
    """Return (better row, worse row) of the pairs that stay apart when all are corrected together."""
    pairs = list(differences)
    adjusted = holm([differences[pair].p for pair in pairs])
    found = []
    for (one, two), p in zip(pairs, adjusted, strict=True):
        said = verdict(differences[one, two].points, p)
        found += [(one, two)] if said == "better" else [(two, one)] if said == "worse" else []
    return found
