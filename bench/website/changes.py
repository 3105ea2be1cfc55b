"""What changed on the board, day by day: what was measured for the first time, and what came out otherwise.

Every seed is compared with its own earlier record, so that another draw is not taken for a change; the seeds of a row
that changed on one day are one change. What comes out the same again is none.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vitptq.bench.board.rows import Row
from vitptq.bench.results.history import Measured, thing

Kind = Literal["new", "moved", "failed", "recovered"]
SAME = 0.005
"""Points. Less does not show in two decimals."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row on one day."""

    kind: Kind
    thing: str
    seeds: tuple[int, ...]
    measured: Measured
    """The last of its records of that day."""
    old: float | None
    new: float | None
    reason: str
    """What differs in how it was measured."""

    @property
    def day(self) -> str:
        """Return the date in UTC."""
        return self.measured.finished[:10]

    @property
    def id(self) -> str:
        """Return an identity that a later build gives it, too: the cell, and when it was measured."""
        return f"{self.measured.id}/{self.measured.finished}"


@dataclass(frozen=True, slots=True)
class Shown:
    """A change of a row that is on the board."""

    change: Change
    row: Row

    @property
    def text(self) -> str:
        """Say in a few words what changed."""
        change, row = self.change, self.row
        seeds = f"seed{'s' if len(change.seeds) > 1 else ''} {', '.join(map(str, change.seeds))}"
        place = f"{row.label}, {row.cell.model} at {row.bits} ({row.cell.task}, {row.cell.edition})"
        match change.kind:
            case "failed":
                return f"{place}: no score, {seeds}"
            case "moved" if change.old is not None and change.new is not None:
                return f"{place}: {change.old:.2f} to {change.new:.2f}, {seeds}"
            case _:
                return f"{place}: {change.new:.2f}, {seeds}" if change.new is not None else f"{place}: {seeds}"


@dataclass(frozen=True, slots=True)
class _Step:
    """One record, beside the one before it of the same seed."""

    kind: Kind
    before: Measured | None
    after: Measured


def changes(measured: Mapping[str, Sequence[Measured]]) -> tuple[Change, ...]:
    """Return what changed, the newest first; `measured` holds every record by its thing, in the order of time."""
    found = [change for thing, records in measured.items() for change in _of_thing(thing, records)]
    return tuple(sorted(found, key=lambda change: (change.measured.finished, change.measured.id), reverse=True))


def shown(board_rows: Iterable[Row], measured: Mapping[str, Sequence[Measured]]) -> tuple[Shown, ...]:
    """Return the changes of these rows, the newest first."""
    rows = {thing(row.cell): row for row in board_rows}
    known = {key: records for key, records in measured.items() if key in rows}
    return tuple(Shown(change, rows[change.thing]) for change in changes(known))


def _of_thing(thing: str, records: Sequence[Measured]) -> Iterator[Change]:
    days: dict[tuple[str, Kind], list[_Step]] = {}
    for step in _steps(records):
        days.setdefault((step.after.finished[:10], step.kind), []).append(step)
    for (_, kind), steps in days.items():
        last = steps[-1]
        yield Change(
            kind=kind,
            thing=thing,
            seeds=tuple(sorted({step.after.seed for step in steps})),
            measured=last.after,
            old=_mean(step.before.score for step in steps if step.before),
            new=_mean(step.after.score for step in steps),
            reason=last.after.failure.splitlines()[0] if last.after.failure else _reason(last),
        )


def _steps(records: Sequence[Measured]) -> Iterator[_Step]:
    """Yield what is new or other than before, seed by seed."""
    newest: dict[int, Measured] = {}
    for record in records:
        before = newest.get(record.seed)
        kind = _kind(before, record)
        if kind:
            yield _Step(kind, before, record)
        newest[record.seed] = record


def _kind(before: Measured | None, after: Measured) -> Kind | None:
    if before is None:
        return "failed" if after.failure else "new"
    if bool(before.failure) != bool(after.failure):
        return "failed" if after.failure else "recovered"
    if before.score is None or after.score is None:
        return None
    return "moved" if abs(after.score - before.score) >= SAME else None


def _reason(step: _Step) -> str:
    before, after = step.before, step.after
    if before is None:
        return ""
    parts = []
    if before.id != after.id:
        parts.append("other code, data or checkpoint")
    if before.version != after.version:
        parts.append(f"commit {before.version} to {after.version}")
    if before.environment != after.environment:
        parts.append("other versions of packages or another kind of device")
    return "; ".join(parts) or "measured again"


def _mean(scores: Iterable[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return statistics.fmean(known) if known else None
