"""Commands that compare two states of the results: the nightly run, and two results folders."""

from __future__ import annotations

import enum
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitptq.bench.commands.app import command
from vitptq.bench.commands.options import DEFAULT_RESULTS, Adapters, Only, Results
from vitptq.bench.commands.selected_cells import cells_of, command_line, load_adapters
from vitptq.bench.errors import brief

if TYPE_CHECKING:  # torch takes seconds to import, so commands import what they need
    from vitptq.bench.nightly.night import Night
    from vitptq.bench.results.cell import Cell
    from vitptq.bench.results.record import Record

REGRESSED, BUSY = 1, 3


class ReportFormat(enum.StrEnum):
    """How `diff` prints."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"


@command
def nightly(
    suite: Annotated[
        list[str], typer.Option("--suite", metavar="SUITE", help="A suite's name or file; may be given several times.")
    ],
    results: Results = DEFAULT_RESULTS,
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="For example 6h or 90m.")] = "6h",
    only: Only = None,
    adapter: Adapters = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per GPU, or one on the CPU.")
    ] = None,
    limit: Annotated[float, typer.Option(min=0.01, help="Minutes after which a cell counts as hung.")] = 240,
    notify: Annotated[
        str,
        typer.Option("--notify", metavar="COMMAND", help="Run afterwards, with VITPTQ_REPORT and VITPTQ_REGRESSIONS."),
    ] = "",
) -> None:
    """Measure what is new or stale within a budget and report what moved; status 1: worse, 3: another night runs."""
    from vitptq.bench.nightly.night import AlreadyRunning, Night
    from vitptq.bench.nightly.order import parse_budget
    from vitptq.bench.nightly.report import lines
    from vitptq.bench.run import provenance

    seconds = parse_budget(budget)
    until = time.monotonic() + seconds
    cells = list({cell.id: cell for name in suite for cell in cells_of(name, only, None, adapter)}.values())
    night = Night(results)
    try:
        with night.alone():
            resumed = night.begin(provenance.next_second())  # records tell seconds
            if resumed:
                print(f"going on with the night that began at {night.started}", flush=True)
            again = command_line("run", suite[0], methods=None, adapters=adapter)
            notes = _measure_night(night, cells, seconds, until, device, workers, limit, again)
            report = night.report(f"Night of {night.started}", notes)
            path = night.finish(report)
    except AlreadyRunning as error:
        print(f"vitptq: {error}", file=sys.stderr)
        raise typer.Exit(BUSY) from None
    print(*lines(report.changes), report.headline, *report.notes, f"report: {path}", sep="\n")
    if notify:
        told = {"VITPTQ_REPORT": str(path.resolve()), "VITPTQ_REGRESSIONS": str(len(report.regressions))}
        done = subprocess.run(shlex.split(notify), env=os.environ | told, check=False)
        if done.returncode:
            print(f"vitptq: the command of --notify ended with status {done.returncode}", file=sys.stderr)
    if report.regressions or any(note.startswith("verification") for note in report.notes):
        raise typer.Exit(REGRESSED)


def _measure_night(
    night: Night, cells: list[Cell], budget_s: float, until: float, device: str, workers: int | None, limit: float,
    again: str,
) -> list[str]:  # fmt: skip
    """Measure what is due and fits into the budget; return what the report has to say about it."""
    from vitptq.bench import catalogue, registry
    from vitptq.bench.nightly import order
    from vitptq.bench.run import provenance
    from vitptq.bench.run.progress import RunProgress
    from vitptq.bench.run.schedule import Plan, choose_devices, run_cells
    from vitptq.bench.run.time_estimate import Estimates

    records = night.store.readable()
    estimates = Estimates(records, catalogue.families())
    seconds = {cell.id: found.seconds for cell in cells if (found := estimates.of(cell)) is not None}
    devices = choose_devices(device)
    environment = provenance.environment(devices[0])
    all_due = order.due(cells, records, environment, seconds)
    taken = order.within(all_due, budget_s, workers or len(devices))
    ids = {each.cell.id for each in taken}
    night.retire([record for record in records if record.id in ids])
    counts = {why: sum(each.why == why for each in taken) for why in order.ORDER}
    print(", ".join(f"{count} {why}" for why, count in counts.items()) + f" of {len(all_due)} due", flush=True)
    if taken:
        night.store.probe()
        with RunProgress(len(taken), catalogue.ranking_metrics(), seconds=seconds) as progress:
            plan = Plan(
                night.store.root, device, workers, limit * 60, retry_failed=True, adapters=registry.added_files(),
                again=again, until=until,
            )  # fmt: skip
            run_cells([each.cell for each in taken], plan, progress.finished, progress.steps)
    left = len(all_due) - sum(night.store.record(each.cell) is not None for each in taken)
    return [f"{left} of {len(all_due)} due cells did not fit into the budget"] if left else []


@command
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A results folder.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another one, or the same with --commits.")],
    commits: Annotated[
        str, typer.Option("--commits", metavar="OLD..NEW", help="Compare what these two commits measured.")
    ] = "",
    format: Annotated[ReportFormat, typer.Option("--format", help="How to print it.")] = ReportFormat.TEXT,
    adapter: Adapters = None,
) -> None:
    """Compare two results folders, or two commits, cell by cell; status 1 where something became worse."""
    from vitptq.bench.board.stored_noise import StoredNoise
    from vitptq.bench.nightly.changes import changes, thing
    from vitptq.bench.nightly.night import EveryNoise
    from vitptq.bench.nightly.report import Report, as_html, as_markdown, lines
    from vitptq.bench.results.store import Store

    load_adapters(adapter)
    stores = Store(old), Store(new)
    for store in stores:
        store.require()
    before, after = (store.readable() for store in stores)
    if commits:
        before, after = _of_commits(before, after, commits)
    found = changes(before, after, EveryNoise(StoredNoise(store) for store in stores), [*before, *after])
    things = {thing(record.cell) for record in (*before, *after)}
    title = f"{brief(str(old))} to {brief(str(new))}" + (f", {commits}" if commits else "")
    report = Report(title, tuple(found), len(things) - len(found))
    if format is ReportFormat.TEXT:
        print(*lines(report.changes), report.headline, sep="\n")
    else:
        print(as_html(report) if format is ReportFormat.HTML else as_markdown(report), end="")
    if report.regressions:
        raise typer.Exit(REGRESSED)


def _of_commits(before: list[Record], after: list[Record], commits: str) -> tuple[list[Record], list[Record]]:
    from vitptq.bench.errors import BadInput, UnknownName

    old, separator, new = commits.partition("..")
    if not separator or not old or not new:
        raise BadInput(f'"{brief(commits)}" is not OLD..NEW, for example 5643d0b..f7efe4d')
    chosen = []
    for name, records in ((old, before), (new, after)):
        kept = [record for record in records if record.provenance.commit.startswith(name)]
        if not kept:
            known = sorted({record.provenance.commit[:7] for record in records})
            raise UnknownName("commit in these results", name, known)
        chosen.append(kept)
    return chosen[0], chosen[1]
