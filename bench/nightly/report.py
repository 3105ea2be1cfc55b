"""The report of a comparison: plain data that is kept as JSON, and read again for the website."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from vitptq.bench.errors import BadInput, invalid_fields
from vitptq.bench.nightly.changes import Change, Kind
from vitptq.bench.nightly.failing import Failing
from vitptq.bench.results.cell import canonical_json, without_draw

TITLES: dict[Kind, str] = {
    "failed": "fails now",
    "score": "score moved",
    "time": "time moved",
    "memory": "memory moved",
    "mended": "works again",
    "new": "new",
    "gone": "gone",
    "same": "unchanged",
}
LONGEST_REASON = 200


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Line(_Part):
    """What became of one thing."""

    worse: bool
    what: str
    cell: str
    score: str = ""
    """The difference with half of its interval, or why there is no score."""
    seconds: tuple[float, float] | None = None
    """Quantising before and after."""
    mib: tuple[float, float] | None = None
    """Peak of memory before and after."""
    commits: str = ""
    records: tuple[str, ...] = ()
    """The new ones; the old ones where there are no new ones."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the line as texts, in the order of `HEADS`."""
        return self.what, self.cell, self.score, _pair(self.seconds, 1), _pair(self.mib, 0), self.commits

    def __str__(self) -> str:
        """Return the line as a sentence."""
        what, cell, score, seconds, mib, commits = self.columns
        told = [text for text in (score, seconds and f"quantising {seconds} s", mib and f"{mib} MiB", commits) if text]
        return f"{'WORSE ' if self.worse else ''}{what}: {cell}" + (f" ({'; '.join(told)})" if told else "")


class FailingLine(_Part):
    """A cell that fails, and since when."""

    cell: str
    reason: str
    since: str
    """The first commit at which it was seen failing."""
    since_date: str
    worked: str = ""
    """The last commit at which it worked; empty where none did."""
    record: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the line as texts, in the order of `FAILING_HEADS`."""
        return self.cell, self.reason, self.since, self.since_date, self.worked or "never"


HEADS = ("What", "Cell", "Score", "Quantising, s", "Memory, MiB", "Commits")
FAILING_HEADS = ("Cell", "Why", "Fails since commit", "Date", "Last worked at")


class Report(_Part):
    """What a comparison found, and what it is of."""

    schema_version: Literal[1] = 1
    title: str
    lines: tuple[Line, ...]
    """What changed, regressions first."""
    unchanged: int
    failing: tuple[FailingLine, ...] = ()
    notes: tuple[str, ...] = ()
    """What else a reader must know: what the budget left out."""
    problems: tuple[str, ...] = ()
    """What verification found."""

    @property
    def regressions(self) -> tuple[Line, ...]:
        """Return what became worse."""
        return tuple(line for line in self.lines if line.worse)

    @property
    def regressed(self) -> bool:
        """Tell whether something became worse, or a score is not what its evidence says."""
        return bool(self.regressions or self.problems)

    @property
    def first_line(self) -> str:
        """Say the most important thing: the worst regression, or that there is none."""
        if self.regressions:
            return str(self.regressions[0])
        return f"Nothing became worse{f', but {len(self.problems)} scores are not verified' if self.problems else ''}"

    @property
    def headline(self) -> str:
        """Count in one line."""
        counts = f"{_count(len(self.regressions), 'regression')}, {_count(len(self.lines), 'change')}"
        return f"{counts}, {self.unchanged} unchanged" + (f", {len(self.failing)} failing" if self.failing else "")


def lines_of(changes: Sequence[Change]) -> tuple[Line, ...]:
    """Return one line per change."""
    names = _names([change.thing for change in changes])
    return tuple(_line(change, names[change.thing]) for change in changes)


def failing_lines(found: Sequence[Failing]) -> tuple[FailingLine, ...]:
    """Return one line per cell that fails."""
    names = _names([each.now.thing for each in found])
    return tuple(_failing_line(each, names[each.now.thing]) for each in found)


def parse_report(text: bytes, what: str) -> Report:
    """Return the report that is kept in `text`; BadInput where it is none."""
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        raise BadInput(f"{what} is no report of a night ({invalid_fields(error)[:200]}); move it away") from None


def _line(change: Change, name: str) -> Line:
    shown = change.new or change.old
    return Line(
        worse=change.worse,
        what=", ".join(TITLES[kind] for kind in change.kinds),
        cell=_seeded(name, *(record.cell.seed for record in shown)),
        score=_score(change),
        seconds=change.seconds,
        mib=change.mib,
        commits=_commits(change),
        records=tuple(record.id for record in shown),
    )


def _failing_line(found: Failing, name: str) -> FailingLine:
    first = found.first
    tried_before = first.first_failed < first.started  # an attempt that a later one replaced
    return FailingLine(
        cell=_seeded(name, found.now.seed),
        reason=found.now.failure,
        since=first.version + (" or before" if tried_before else ""),
        since_date=first.first_failed[:10],
        worked=found.worked.version if found.worked else "",
        record=found.now.id,
    )


def _names(things: Sequence[str]) -> dict[str, str]:
    """Name things for people; those that differ in parameters only are told apart by these."""
    alike: dict[str, dict[str, Any]] = {}
    for each in things:
        asked = json.loads(each)
        alike.setdefault(_name(asked), {})[each] = asked["parameters"]
    return {
        each: " ".join([name, *_told_apart(parameters, rivals.values())])
        for name, rivals in alike.items()
        for each, parameters in rivals.items()
    }


def _name(asked: Mapping[str, Any]) -> str:
    return without_draw(asked) + (f" {asked['calibration_size']} images" if asked["calibration_size"] else "")


def _told_apart(parameters: Mapping[str, Any], rivals: Collection[Mapping[str, Any]]) -> list[str]:
    apart = [name for name in sorted(parameters) if len({canonical_json(rival.get(name)) for rival in rivals}) > 1]
    return [f"{name}={canonical_json(parameters[name])}" for name in apart]


def _seeded(name: str, *seeds: int) -> str:
    return f"{name} seed {', '.join(map(str, seeds))}"


def _score(change: Change) -> str:
    if "failed" in change.kinds:
        failure = next(record.failure for record in change.new if record.failure is not None)
        return f"{failure.headline}: {failure.message}"[:LONGEST_REASON]
    if change.score is None or change.metric is None:
        return ""
    half = (change.score.high - change.score.low) / 2
    return f"{change.metric.title} {change.score.points:+.2f} ± {half:.2f}"


def _commits(change: Change) -> str:
    old, new = ({r.provenance.commit[:7] for r in records} for records in (change.old, change.new))
    return " to ".join("/".join(sorted(commits)) for commits in (old, new) if commits)


def _pair(pair: tuple[float, float] | None, digits: int) -> str:
    return "" if pair is None else f"{pair[0]:.{digits}f} to {pair[1]:.{digits}f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
