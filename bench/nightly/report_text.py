"""The report of a night as Markdown, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitptq.bench.board.exports.markdown import markdown
from vitptq.bench.nightly.report import FAILING_HEADS, HEADS, Report


def as_markdown(report: Report) -> str:
    """Return the report; its first line is the worst regression."""
    lines = [f"# {markdown(report.first_line)}", "", f"{markdown(report.title)}: {report.headline}", ""]
    lines += [f"- {markdown(note)}" for note in (*report.problems, *report.notes)]
    if report.lines:
        lines += _table(HEADS, [line.columns for line in report.lines])
    if report.failing:
        lines += ["", "## What fails", *_table(FAILING_HEADS, [line.columns for line in report.failing])]
    return "\n".join(lines) + "\n"


def as_lines(report: Report) -> Iterator[str]:
    """Yield the report for a terminal, the worst first."""
    yield from (str(line) if line.worse else f"      {line}" for line in report.lines)
    yield from report.problems
    for line in report.failing:
        worked = f", worked at {line.worked}" if line.worked else ""
        yield f"FAILS since {line.since} ({line.since_date}{worked}): {line.cell}: {line.reason}"
    yield report.headline
    yield from report.notes


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = "|---" * len(heads) + "|"
    return ["", "| " + " | ".join(heads) + " |", rule, *("| " + " | ".join(map(markdown, row)) + " |" for row in rows)]
