"""Badges: the short remarks that a machine sets on a row, each with the sentence behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # a row has badges
    from vitptq.bench.board.rows import Row

Tone = Literal["bad", "warn", "info"]


@dataclass(frozen=True, slots=True)
class Badge:
    """A short machine-set remark on a row, with the sentence behind it."""

    text: str
    meaning: str
    tone: Tone
    anchor: str = ""
    """Part of the run page that tells more."""


def badges(row: Row) -> Iterator[Badge]:
    """Yield the remarks that a reader must see beside the score, the worst first."""
    yield from _audit(row)
    yield from _coverage(row)
    yield from _method(row)
    yield from _notes(row)


def _audit(row: Row) -> Iterator[Badge]:
    if row.violations:
        meaning = f"the audit found: {'; '.join(row.violations)}"
        yield Badge(f"audit: {_count(len(row.violations), 'violation')}", meaning, "bad", "audit")
    if row.dynamic:
        meaning = "its ranges are found anew for what the model is given; most methods fix them before the evaluation"
        yield Badge("dynamic ranges", meaning, "info", "audit")
    if row.kept_in_float:
        smallest = min(side.group // side.float_values for side in row.kept_in_float)
        meaning = (
            f"of {_count(len(row.kept_in_float), 'operand')} one value in {smallest} or more stays in float, beside "
            "the 2^bits of its grid; what is multiplied by it counts as float"
        )
        yield Badge("float maxima", meaning, "info", "audit")


def _coverage(row: Row) -> Iterator[Badge]:
    if row.counted and row.missing_seeds:
        expected = len(row.expected_seeds)
        meaning = f"mean of {_seeds(row.seeds)} only; without a counted score: {_seeds(row.missing_seeds)}"
        yield Badge(f"{expected - len(row.missing_seeds)} of {expected} seeds", meaning, "warn", "seeds")
    reasons = dict.fromkeys(r.provenance.why_unofficial for r in row.records if not r.provenance.official)
    if reasons:
        meaning = f"the code that measured it cannot be had again: {'; '.join(reasons)}"
        yield Badge("not official", meaning, "warn", "provenance")
    if row.stale:
        meaning = "its adapter has changed since it was measured; running its suite again replaces it"
        yield Badge("stale", meaning, "warn", "cell")
    yield from _origin(row)
    if not row.current:
        meaning = "measured on other data or another checkpoint than the newest of this table"
        yield Badge("older data", meaning, "warn", "cell")


def _origin(row: Row) -> Iterator[Badge]:
    here = sum(row.origins.get(record.id) == "here" for record in row.records)
    if here:
        every = here == len(row.records)
        meaning = "measured here, and not among the committed results"
        yield Badge("here" if every else f"{here} of {len(row.records)} here", meaning, "info", "provenance")


def _method(row: Row) -> Iterator[Badge]:
    if row.card.category == "data-free":
        meaning = "its method saw no image of the task: it was given the input's shape alone"
        yield Badge("data-free", meaning, "info", "cell")
    if row.bits.removed:
        meaning = f"weights are products of low-rank factors, with {row.bits.removed} % fewer parameters"
        yield Badge("low-rank", meaning, "info", "cell")
    if row.added_by_branches:
        parameters, share = row.added_by_branches
        meaning = (
            f"side branches in half precision make up for the quantised blocks: {parameters} more parameters, "
            f"{share:.1f} % of the multiply-accumulates"
        )
        yield Badge("float branch", meaning, "info", "cell")
    if row.fidelity == "inferred":
        yield Badge("inferred", "parts of the method had to be inferred; the method page lists them", "info", "cell")
    elif row.card.inferred and row.fidelity == "paper":
        inferred = "; ".join(row.card.inferred)
        meaning = f"fidelity paper, but the paper leaves something open; inferred: {inferred}"
        yield Badge(f"{_count(len(row.card.inferred), 'part')} inferred", meaning, "info", "cell")


def _notes(row: Row) -> Iterator[Badge]:
    if any(note.lower().startswith("reduced") for note in row.notes):
        yield Badge("reduced", "; ".join(row.notes), "warn", "notes")
    elif row.notes:
        yield Badge("note", "; ".join(row.notes), "info", "notes")


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
