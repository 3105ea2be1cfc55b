"""The report of what changed, as Markdown and as one HTML page that loads nothing."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitptq.bench.board.exports.markdown import markdown
from vitptq.bench.nightly.changes import Change, Kind

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


@dataclass(frozen=True)
class Report:
    """What a comparison found, and what it is of."""

    title: str
    changes: tuple[Change, ...]
    unchanged: int
    notes: tuple[str, ...] = ()
    """What else a reader must know: what the budget left out, what verification found."""

    @property
    def regressions(self) -> tuple[Change, ...]:
        """Return what became worse."""
        return tuple(change for change in self.changes if change.worse)

    @property
    def headline(self) -> str:
        """Say in one line whether something became worse."""
        worse = len(self.regressions)
        return f"{worse} regression{'' if worse == 1 else 's'}, {len(self.changes)} changes, {self.unchanged} unchanged"


def as_markdown(report: Report) -> str:
    """Return the report; regressions come first."""
    lines = [f"# {markdown(report.title)}", "", report.headline, ""]
    lines += [f"- {markdown(note)}" for note in report.notes]
    if report.changes:
        lines += ["", "| what | cell | score | quantising, s | memory, MiB | commits |", "|---|---|---|---|---|---|"]
        lines += ["| " + " | ".join(map(markdown, _columns(change))) + " |" for change in report.changes]
    return "\n".join(lines) + "\n"


def as_html(report: Report) -> str:
    """Return the report as one page."""
    rows = "".join(
        f'<tr class="{"worse" if change.worse else "other"}">'
        + "".join(f"<td>{html.escape(text)}</td>" for text in _columns(change))
        + "</tr>\n"
        for change in report.changes
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.notes)
    heads = "".join(f'<th scope="col">{head}</th>' for head in HEADS)
    return PAGE.format(
        title=html.escape(report.title), headline=html.escape(report.headline), notes=notes, heads=heads, rows=rows
    )


def lines(changes: Sequence[Change]) -> Iterator[str]:
    """Yield one line per change for a terminal."""
    for change in changes:
        what, cell, score, seconds, mib, commits = _columns(change)
        told = [text for text in (score, seconds and f"quantising {seconds} s", mib and f"{mib} MiB", commits) if text]
        yield f"{'WORSE ' if change.worse else '      '}{what}: {cell}" + (f" ({'; '.join(told)})" if told else "")


HEADS = ("What", "Cell", "Score", "Quantising, s", "Memory, MiB", "Commits")


def _columns(change: Change) -> tuple[str, ...]:
    cell = change.cell
    seeds = ", ".join(str(record.cell.seed) for record in change.new or change.old)
    name = f"{cell.task}/{cell.edition} {cell.model} {cell.method} {cell.bits} seed {seeds}"
    return (
        ", ".join(TITLES[kind] for kind in change.kinds),
        name,
        _score(change),
        _pair(change.seconds, 1),
        _pair(change.mib, 0),
        _commits(change),
    )


def _score(change: Change) -> str:
    if "failed" in change.kinds:
        failure = next(record.failure for record in change.new if record.failure is not None)
        return f"{failure.headline}: {failure.message}"[:200]
    if change.score is None or change.metric is None:
        return ""
    half = (change.score.high - change.score.low) / 2
    return f"{change.metric.title} {change.score.points:+.2f} ± {half:.2f}"


def _pair(pair: tuple[float, float] | None, digits: int) -> str:
    return "" if pair is None else f"{pair[0]:.{digits}f} to {pair[1]:.{digits}f}"


def _commits(change: Change) -> str:
    old, new = ({r.provenance.commit[:7] for r in records} for records in (change.old, change.new))
    return " to ".join("/".join(sorted(commits)) for commits in (old, new) if commits)


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1.5rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid #8888; vertical-align: top; }}
.worse td:first-child {{ font-weight: 700; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{headline}</p>
<ul>{notes}</ul>
<table>
<caption>What changed; regressions first, in bold.</caption>
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}</tbody>
</table>
</body>
</html>
"""
