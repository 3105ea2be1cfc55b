"""What fails now, and since when: the first commit after the last one that worked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitptq.bench.results.history import Measured


@dataclass(frozen=True)
class Failing:
    """One cell without a score, from its first failure on."""

    now: Measured
    first: Measured
    """The oldest record of the failures that no score interrupts."""
    worked: Measured | None
    """The last record with a score before them."""


def failing(measured: Iterable[Measured]) -> list[Failing]:
    """Return what fails at the end of a history, the newest failures first; `measured` is in the order of time."""
    lines: dict[tuple[str, int], list[Measured]] = {}
    for each in measured:
        lines.setdefault((each.thing, each.seed), []).append(each)
    found = [_failing(line) for line in lines.values() if line[-1].failure]
    # what a method never supported is a result of it, and no failure
    bugs = [each for each in found if each.worked or not each.now.failure.startswith("unsupported:")]
    return sorted(bugs, key=lambda each: (each.first.first_failed, each.now.id), reverse=True)


def _failing(line: Sequence[Measured]) -> Failing:
    failures: list[Measured] = []
    for each in reversed(line):
        if not each.failure:
            return Failing(line[-1], failures[-1], each)
        failures.append(each)
    return Failing(line[-1], failures[-1], None)
