"""What a machine with a GPU was found to do, as Markdown: checks, timings, and the embedded edition's scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitptq.bench.results.record import Record
from vitptq.bench.run.device_timings import FLOAT, Timing

SHOWN = 80
"""Characters of a failure that a table has room for."""


@dataclass(frozen=True)
class Checks:
    """How the comparison with the CPU came out."""

    kind: str
    passed: int
    skipped: int
    failures: tuple[str, ...]
    complete: bool = True


def checks_text(checks: Checks) -> str:
    """Return the counts, and what failed."""
    ended = "" if checks.complete else "; the time was over before the end"
    counts = f"{checks.passed} passed, {checks.skipped} skipped, {len(checks.failures)} failed"
    return "\n".join(
        [f"{checks.kind}: {counts}{ended}.", "", *(f"- failed: {name}" for name in checks.failures)]
    ).strip()


def timing_table(timings: Sequence[Timing]) -> str:
    """Return a line per timing, with its share of the float model's forward pass."""
    plain = next((timing.seconds for timing in timings if timing.what == FLOAT), None)
    lines = ["| what | seconds | of a float forward pass | peak MiB |", "|---|---:|---:|---:|"]
    for timing in timings:
        if timing.seconds is None:
            lines.append(f"| {timing.what} | {_cell(timing.problem)} | | |")
            continue
        share = f"{timing.seconds / plain:.2f}x" if plain else ""
        peak = "" if timing.peak_mib is None else f"{timing.peak_mib:.0f}"
        lines.append(f"| {timing.what} | {timing.seconds:.4g} | {share} | {peak} |")
    return "\n".join(lines)


def record_table(records: Sequence[Record]) -> str:
    """Return a line per record: score, seconds, and whether it is repeatable; or why there is none."""
    lines = ["| model | method | bits | score | quantise s | evaluate s | deterministic |"]
    return "\n".join([*lines, "|---|---|---|---:|---:|---:|---|", *_record_lines(records)])


def _record_lines(records: Sequence[Record]) -> Iterator[str]:
    for record in sorted(records, key=lambda r: (r.cell.model, r.cell.method, r.cell.bits)):
        where = f"| {record.cell.model} | {record.cell.method} | {record.cell.bits} |"
        if record.costs is not None:
            score = next(iter(record.scores.values()))
            steady = "yes" if record.provenance.deterministic else f"no: {', '.join(record.provenance.unrepeatable)}"
            yield f"{where} {score:.2f} | {record.costs.quantise_s:.2f} | {record.costs.evaluate_s:.2f} | {steady} |"
        elif record.failure is not None:
            yield f"{where} {record.failure.kind}: {_cell(record.failure.message)} | | | |"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")[:SHOWN]
