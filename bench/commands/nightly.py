"""Commands that compare two states of the results: the nightly run, and two folders or commits."""

from __future__ import annotations

import enum
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track

from vitptq.bench.commands.app import command
from vitptq.bench.commands.options import DEFAULT_RESULTS, Adapters, Only, Results
from vitptq.bench.commands.selected_cells import cells_of, command_line, load_adapters
from vitptq.bench.errors import BadInput, brief
from vitptq.bench.files import write_atomically

if TYPE_CHECKING:  # torch takes seconds to import, so commands import what they need
    from vitptq.bench.nightly.night import Night
    from vitptq.bench.nightly.report import Report
    from vitptq.bench.results.cell import Cell
    from vitptq.bench.results.history import History

REGRESSED, BUSY = 1, 3
MANY_FILES = 1000
"""From here on reading takes seconds, and is shown."""


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
        typer.Option(
            "--notify",
            metavar="COMMAND",
            help="Run afterwards, with VITPTQ_REPORT, VITPTQ_FIRST_LINE and VITPTQ_REGRESSIONS.",
        ),
    ] = "",
) -> None:
    """Measure what is new or stale within a budget and report what moved; status 1: worse, 3: another night runs."""
    from vitptq.bench.nightly.night import AlreadyRunning, Night
    from vitptq.bench.nightly.order import parse_budget
    from vitptq.bench.nightly.report_text import as_lines
    from vitptq.bench.results.history import History, thing
    from vitptq.bench.run import provenance

    seconds = parse_budget(budget)
    until = time.monotonic() + seconds
    hook = _hook(notify)
    cells = list({cell.id: cell for name in suite for cell in cells_of(name, only, None, adapter)}.values())
    night = Night(results)
    try:
        with night.alone():
            resumed = night.begin(provenance.next_second())  # records tell seconds
            if resumed:
                print(f"going on with the night that began at {night.started}", flush=True)
            again = command_line("run", suite[0], methods=None, adapters=adapter)
            history = History.read(results, _shown)
            notes = _measure_night(night, cells, history, seconds, until, device, workers, limit, again)
            things = {thing(cell) for cell in cells}
            report = night.report(f"Night of {night.started}", history.refreshed(), things, notes)
            path = night.finish(report)
            write_atomically(path.with_suffix(".html"), _page(report).encode())
    except AlreadyRunning as error:
        print(f"vitptq: {error}", file=sys.stderr)
        raise typer.Exit(BUSY) from None
    print(*as_lines(report), f"report: {path}", sep="\n", flush=True)
    if hook:
        _notify(hook, report, path)
    if report.regressed:
        raise typer.Exit(REGRESSED)


def _hook(notify: str) -> list[str]:
    """Return the words of the command to run afterwards; one that cannot run is told before the night, not after."""
    try:
        words = shlex.split(notify)
    except ValueError as error:
        raise BadInput(f'--notify "{brief(notify)}" cannot be read ({error}); quote it as a shell would') from None
    if words and shutil.which(words[0]) is None:
        raise BadInput(f'--notify "{brief(words[0])}" is no command here; name a program on the PATH, or its file')
    return words


def _notify(hook: list[str], report: Report, path: Path) -> None:
    told = {
        "VITPTQ_REPORT": str(path.resolve()),
        "VITPTQ_FIRST_LINE": report.first_line,
        "VITPTQ_REGRESSIONS": str(len(report.regressions)),
    }
    done = subprocess.run(hook, env=os.environ | told, check=False)
    if done.returncode:
        print(f"vitptq: the command of --notify ended with status {done.returncode}", file=sys.stderr)


def _measure_night(
    night: Night, cells: list[Cell], history: History, budget_s: float, until: float, device: str,
    workers: int | None, limit: float, again: str,
) -> list[str]:  # fmt: skip
    """Measure what is due and fits into the budget; return what the report has to say about it."""
    from vitptq.bench import catalogue, registry
    from vitptq.bench.nightly import order
    from vitptq.bench.nightly.whole_records import WholeRecords
    from vitptq.bench.results.history import newest
    from vitptq.bench.run import provenance
    from vitptq.bench.run.devices import choose_devices
    from vitptq.bench.run.plan import Plan
    from vitptq.bench.run.progress import RunProgress
    from vitptq.bench.run.schedule import run_cells
    from vitptq.bench.run.time_estimate import Estimates

    estimates = Estimates(WholeRecords().read(history, newest(history.measured)), catalogue.families())
    seconds = {cell.id: found.seconds for cell in cells if (found := estimates.of(cell)) is not None}
    devices = choose_devices(device)
    environment = provenance.environment(devices[0])
    current = history.current
    unreadable = night.store.of(cell for cell in cells if cell.id not in current)[1]  # the report names them
    readable = [cell for cell in cells if cell.id not in unreadable]
    published = _published(readable)
    all_due = order.due(readable, current, history.by_thing.keys(), environment, seconds, published)
    taken = order.within(all_due, budget_s, workers or len(devices))
    night.retire([current[each.cell.id] for each in taken if each.cell.id in current])
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
    left = len(all_due) - len(night.store.of(each.cell for each in taken)[0])
    return [f"{left} of {len(all_due)} due cells did not fit into the budget"] if left else []


def _published(cells: list[Cell]) -> set[str]:
    """Return the ids of the cells with a number in some paper; none outside a clone, where no numbers are."""
    from vitptq.bench.results import claim_names, claims, coverage

    if not (claims.FOLDER / claims.FILE).is_file():
        return set()
    return coverage.claimed(claims.read(), claim_names.read(), cells)


@command
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A results folder, or a commit.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Another one.")],
    results: Results = DEFAULT_RESULTS,
    format: Annotated[ReportFormat, typer.Option("--format", help="How to print it.")] = ReportFormat.TEXT,
    adapter: Adapters = None,
) -> None:
    """Compare two results folders, or what --results knew at two commits; status 1 where something became worse."""
    from vitptq.bench.nightly.changes import changes
    from vitptq.bench.nightly.failing import failing
    from vitptq.bench.nightly.report import Report, failing_lines, lines_of
    from vitptq.bench.nightly.report_text import as_lines, as_markdown
    from vitptq.bench.nightly.states import state_of
    from vitptq.bench.nightly.whole_records import WholeRecords

    load_adapters(adapter)
    before, after = (state_of(name, results, _shown) for name in (old, new))
    whole = WholeRecords()
    found = changes(
        whole.read(before.history, before.newest), whole.read(after.history, after.newest), whole, before.known
    )
    things = {each.thing for each in (*before.known, *after.known)}
    report = Report(
        title=f"{before.name} to {after.name}",
        lines=lines_of(found),
        unchanged=len(things) - len(found),
        failing=failing_lines(failing(after.known)),
        notes=(*before.history.problems, *after.history.problems, *whole.problems),
    )
    if format is ReportFormat.TEXT:
        print(*as_lines(report), sep="\n")
    else:
        print(_page(report) if format is ReportFormat.HTML else as_markdown(report), end="")
    if report.regressed:
        raise typer.Exit(REGRESSED)


def _page(report: Report) -> str:
    from vitptq.bench.website.nights import page_alone
    from vitptq.bench.website.templates import shipped

    return page_alone(report, shipped())


def _shown(files: Sequence[str]) -> Iterable[str]:
    """Show the progress through many files."""
    console = Console(stderr=True)
    return track(files, "reading records", console=console, disable=not console.is_terminal or len(files) < MANY_FILES)
