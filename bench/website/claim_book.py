"""The published numbers by model, with a verdict for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from vitptq.bench.board.board import Board
from vitptq.bench.board.claim_verdicts import Cards, Disagreement, Verdict, Word, disagreements, verdicts
from vitptq.bench.results.claim_names import Names
from vitptq.bench.results.claims import Claim

WORDS: tuple[Word, ...] = ("reproduced", "not reproduced", "not comparable", "not run")


@dataclass(frozen=True)
class ClaimedModel:
    """What was published about one model of a task, with a verdict for each number."""

    task: str
    name: str
    """The backbone, behind the detector or segmenter that it is in."""
    verdicts: tuple[Verdict, ...]

    @property
    def sources(self) -> int:
        """Return how many different sources there are."""
        return len({verdict.claim.reported_in for verdict in self.verdicts})

    def count(self, word: Word) -> int:
        """Return how many numbers have this verdict."""
        return sum(verdict.word == word for verdict in self.verdicts)


@dataclass(frozen=True)
class ClaimBook:
    """The published numbers, and what the board says of each."""

    verdicts: tuple[Verdict, ...]

    @classmethod
    def of(cls, claims: Sequence[Claim], names: Names, board: Board, cards: Cards | None = None) -> ClaimBook:
        """Judge every claim."""
        return cls(tuple(verdicts(claims, names, board, cards)))

    @cached_property
    def models(self) -> tuple[ClaimedModel, ...]:
        """Return the models, by task and name."""
        found: dict[tuple[str, str], list[Verdict]] = {}
        for verdict in self.verdicts:
            claim = verdict.claim
            found.setdefault((claim.task, claim.whole_model), []).append(verdict)
        return tuple(ClaimedModel(*key, tuple(sorted(found[key], key=_reading_order))) for key in sorted(found))

    @cached_property
    def disagreements(self) -> tuple[Disagreement, ...]:
        """Return where sources contradict each other, the widest ranges first."""
        return tuple(disagreements([verdict.claim for verdict in self.verdicts]))

    def count(self, word: Word) -> int:
        """Return how many numbers have this verdict."""
        return sum(verdict.word == word for verdict in self.verdicts)


def _reading_order(verdict: Verdict) -> tuple[object, ...]:
    """Sort wider bits first, then methods by name, then the method's own paper first."""
    claim = verdict.claim
    numbers = (-float(width) if width.isdigit() else 0.0 for width in (claim.w_bits, claim.a_bits))
    return (
        tuple(numbers),
        claim.w_bits,
        claim.a_bits,
        claim.method.lower(),
        claim.kind != "original",
        claim.value,
        str(claim),
    )
