"""The command `vitptq`."""

from __future__ import annotations

import enum
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from vitptq.bench.errors import UnknownName, VitptqError

if TYPE_CHECKING:  # torch takes seconds to import, so commands import what they need
    from vitptq.bench.board.board import Board
    from vitptq.bench.board.method_card import MethodCard
    from vitptq.bench.board.metrics import Declared
    from vitptq.bench.results.cell import Cell
    from vitptq.bench.results.record import Record

app = typer.Typer(
    name="vitptq",
    help="Measure post-training quantisation of vision transformers and publish the results as a static leaderboard.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Results = Annotated[Path, typer.Option("--results", help="Results folder; any number of runs may share one.")]
SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="A suite's name, or a path to a TOML file.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="KEY=VALUE[,VALUE]",
        help="Keep matching cells: task, model, family (or group of families, as hybrid), method, bits, seed ...",
    ),
]
DEFAULT_RESULTS = Path("results")
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method", metavar="NAME|FILE", help="Take this method (or the one in this file) instead of the suite's."
    ),
]
Adapters = Annotated[
    list[Path] | None, typer.Option("--adapter", metavar="FILE", help="Load methods and tasks from a Python file.")
]


class Listed(enum.StrEnum):
    """What `list` can show."""

    METHODS = "methods"
    TASKS = "tasks"
    MODELS = "models"
    SUITES = "suites"


class Format(enum.StrEnum):
    """How `board` prints."""

    TABLE = "table"
    CSV = "csv"
    LATEX = "latex"
    JSON = "json"
    MARKDOWN = "markdown"


class Retry(enum.StrEnum):
    """Which finished cells `run` measures again."""

    FAILED = "failed"


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a command; an error that is the user's to act on is printed in one line, without a traceback."""

    @app.command()
    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except VitptqError as error:
            print(f"vitptq: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("vitptq: stopped; what was measured is kept, the same command goes on from here", file=sys.stderr)
            raise typer.Exit(130) from None
        except BrokenPipeError:  # `vitptq board | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None

    return guarded


@command
def doctor(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Tasks to look at, such as imagenet/mini, coco or mini; all by default.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Show versions, devices, data sets and checkpoints, and what to do about it; status 1 where a run cannot start."""
    from vitptq.bench.doctor import Report

    report, fine = Report(results, tasks or ()), True
    for finding in report.findings():
        print(f"{'ok     ' if finding.fine else 'problem'}  {finding.what}: {finding.text}")
        fine = fine and finding.fine
    print(report.summary())
    if not fine:
        raise typer.Exit(1)


@command
def data(
    edition: Annotated[
        str, typer.Argument(help="Only mini: the full editions' data sets are for a person to download.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write it.")],
) -> None:
    """Generate the embedded data set in the real formats; set VITPTQ_DATA to DIR to use it from there."""
    from vitptq.bench import registry

    if edition != "mini":
        raise UnknownName("generated edition", edition, ["mini"])
    os.environ["VITPTQ_DATA"] = str(out)
    for (name, _), task in sorted(registry.tasks().items()):
        if task.edition == edition:
            with Progress(console=Console(stderr=True)) as bars:
                bar = bars.add_task(f"{name}/{edition}")
                task.prepare(partial(_advance, bars, bar))
    print(f"in {out}:", *sorted(str(path.relative_to(out)) for path in out.glob("*/*")))


@command
def check(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A method's name, or a path to a Python file.")],
) -> None:
    """Try an adapter against the contract, on small random models; takes well under a minute."""
    from vitptq.bench import registry
    from vitptq.bench.run import adapter_check

    failures = 0
    for finding in adapter_check.check(registry.method(method)):
        failures += not finding.ok
        print(
            f"{'ok    ' if finding.ok else 'FAILED'}  {finding.rule}{': ' if finding.problem else ''}{finding.problem}",
            flush=True,
        )
    print(f"{method}: {'keeps the contract' if not failures else f'{failures} rules broken'}")
    if failures:
        raise typer.Exit(1)


@command
def plan(
    suite: SuiteName,
    results: Results = DEFAULT_RESULTS,
    only: Only = None,
    method: Methods = None,
    adapter: Adapters = None,
) -> None:
    """Show a suite's cells, which are done, and how long the rest will take."""
    from vitptq.bench.results.cell import labels
    from vitptq.bench.results.store import Store
    from vitptq.bench.run.time_estimate import clock, estimate

    cells = _cells(suite, only, method, adapter)
    records = {record.id: record for record in Store(results).readable()}
    seconds = {cell.id: estimate(cell, records.values()) for cell in cells if cell.id not in records}
    names = labels(cells)
    for cell in cells:
        left = clock(seconds[cell.id]) if cell.id in seconds else ""
        print(f"{_state(records.get(cell.id)):<7}  {left:>8}  {names[cell.id]}")
    known = [value for value in seconds.values() if value is not None]
    unknown = len(seconds) - len(known)
    print(_count(cells, records) + f"; remaining about {clock(sum(known))} on one worker", end="")
    print(f" and {unknown} cells like none measured before" if unknown else "")


@command
def run(
    suite: SuiteName,
    results: Results = DEFAULT_RESULTS,
    only: Only = None,
    method: Methods = None,
    adapter: Adapters = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Run part I of N, split by hash.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per GPU, or one on the CPU.")
    ] = None,
    retry: Annotated[Retry | None, typer.Option(help="Measure failed cells again.")] = None,
    limit: Annotated[float, typer.Option(min=0.01, help="Minutes after which a cell counts as hung.")] = 240,
) -> None:
    """Measure a suite's cells. Kill it when you like: the same command goes on where it was."""
    from vitptq.bench import registry
    from vitptq.bench.results import suites
    from vitptq.bench.results.store import Store
    from vitptq.bench.run.progress import RunProgress
    from vitptq.bench.run.schedule import Plan, run_cells
    from vitptq.bench.run.time_estimate import estimate

    cells = _cells(suite, only, method, adapter)
    cells = suites.shard(cells, shard) if shard else cells
    store = Store(results)
    known = {cell.id: store.record(cell) for cell in cells}
    todo = [cell for cell in cells if _wanted(known[cell.id], retry)]
    measured = store.readable()
    todo.sort(
        key=lambda cell: -(estimate(cell, measured) or float("inf"))
    )  # longest first, so that workers end together
    print(f"{suite}: {_count(cells, known)} before; results in {results}", flush=True)
    again = _command("run", suite, methods=method, adapters=adapter)
    metric = {key: task.ranking_metric.name for key, task in registry.tasks().items()}
    with RunProgress(len(todo), metric) as progress:
        plan = Plan(results, device, workers, limit * 60, retry is not None, registry.added_files(), again)
        if todo:
            run_cells(todo, plan, progress.finished, progress.steps)
    again = f"{again} {shlex.join(f'--only={text}' for text in only or [])} --results {results}"
    _summary(suite, [store.record(cell) for cell in cells], again=" ".join(again.split()))


@command
def status(
    suite: SuiteName,
    results: Results = DEFAULT_RESULTS,
    only: Only = None,
    method: Methods = None,
    adapter: Adapters = None,
) -> None:
    """Count a suite's cells: done, failed, missing; and say why cells failed."""
    from vitptq.bench.results.store import Store

    store = Store(results)
    _summary(suite, [store.record(cell) for cell in _cells(suite, only, method, adapter)])


@command
def verify(results: Results = DEFAULT_RESULTS, adapter: Adapters = None) -> None:
    """Recompute every score from its evidence and report each difference."""
    from rich.progress import track

    from vitptq.bench.results.store import Store
    from vitptq.bench.results.verify import verify as verdicts

    _load(adapter)
    store = Store(results)
    bad = list(store.problems())
    checked = 0
    console = Console(stderr=True)
    for verdict in track(verdicts(store), "verifying", console=console, disable=not console.is_terminal):
        checked += 1
        bad += [f"{verdict.record.cell.label()} ({verdict.record.id[:12]}): {problem}" for problem in verdict.problems]
    for line in bad:
        print(line)
    print(f"{checked} scores recomputed, {len(bad)} problems")
    if bad:
        raise typer.Exit(1)


@command
def board(
    results: Results = DEFAULT_RESULTS,
    format: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    adapter: Adapters = None,
) -> None:
    """Print the aggregated results."""
    from vitptq.bench.board.exports.formats import render

    _load(adapter)
    print(render(_board(results), format.value), end="")


@command
def compare(
    reference: Annotated[
        str,
        typer.Argument(metavar="METHOD[:KEY=VALUE,...]", help="The method (with these parameters) to compare with."),
    ],
    results: Results = DEFAULT_RESULTS,
    adapter: Adapters = None,
) -> None:
    """Print every method's difference to one of them, on the same images and calibration draws."""
    from vitptq.bench.board.paired_comparison import Reference, as_markdown
    from vitptq.bench.results.store import Store

    _load(adapter)
    print(as_markdown(_board(results), Store(results), Reference.parse(reference)), end="")


@command
def site(
    out: Annotated[Path, typer.Option("--out", help="Folder to build; replaced when it is a site already.")],
    results: Results = DEFAULT_RESULTS,
    adapter: Adapters = None,
) -> None:
    """Build the static leaderboard and print the path of its first page."""
    from vitptq.bench.run import provenance
    from vitptq.bench.website.build import build

    _load(adapter)
    head, dirty = provenance.commit()
    version = head[:12] + ("+changes" if dirty else "")
    index = build(_board(results), out, templates=_templates(), version=version, evidence_dir=results / "evidence")
    print(f"leaderboard: {index.resolve()}")


@app.command("list")
def list_(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """List methods, tasks, models or suites."""
    for line in {
        Listed.METHODS: _methods, Listed.TASKS: _tasks, Listed.MODELS: _models, Listed.SUITES: _suites,
    }[what]():  # fmt: skip
        print(line)


def _advance(bars: Progress, bar: TaskID, done: int, total: int) -> None:
    bars.update(bar, completed=done, total=total)


def _cells(suite: str, only: list[str] | None, methods: list[str] | None, adapters: list[Path] | None) -> list[Cell]:
    from vitptq.bench.results import suites

    _load(adapters)
    return suites.select(suites.load(suite, methods or []), only or [])


def _command(*words: str, methods: list[str] | None, adapters: list[Path] | None) -> str:
    """Return the command line that a record gives for repeating its cell, up to the cell's own filters."""
    options = [*(f"--method={name}" for name in methods or []), *(f"--adapter={path}" for path in adapters or [])]
    return shlex.join(["vitptq", *words, *options])


def _load(adapters: list[Path] | None) -> None:
    from vitptq.bench import registry

    for adapter in adapters or []:
        registry.add_file(adapter)


def _templates() -> Path:
    """Return the folder of the templates: in a clone at the top, in an installed package beside this file."""
    in_clone = Path(__file__).resolve().parent.parent / "site"
    return in_clone if (in_clone / "base.html").is_file() else Path(__file__).resolve().parent.parent / "_site"


def _methods() -> list[str]:
    from vitptq.bench import registry

    return [
        f"{name:<14} {cls.title:<12} {cls.category}, fidelity {cls.fidelity}  {cls.paper}"
        for name, cls in registry.methods().items()
    ]


def _tasks() -> list[str]:
    from vitptq.bench import registry

    return [f"{f'{name}/{edition}':<16} {task.title}" for (name, edition), task in sorted(registry.tasks().items())]


def _models() -> list[str]:
    from vitptq.bench import registry

    return [
        f"{f'{name}/{edition}':<16} {card.name:<30} {card.family:<10} float "
        + ", ".join(f"{metric} {value:.2f}" for metric, value in card.reference.items())
        for (name, edition), task in sorted(registry.tasks().items())
        for card in task.models().values()
    ]


def _suites() -> list[str]:
    from vitptq.bench.results import suites

    return [f"{name:<10} {title}" for name, title in suites.names().items()]


def _board(results: Path) -> Board:
    from vitptq.bench.board.board import Board
    from vitptq.bench.results.store import Store

    store = Store(results)
    for problem in store.problems():
        print(f"vitptq: left out: {problem}", file=sys.stderr)
    records = store.readable()
    return Board.from_records(records, _method_cards(), _declared_metrics(records))


def _declared_metrics(records: list[Record]) -> Declared:
    """Return what the installed tasks say of their scores, where some record does not say it itself."""
    from vitptq.bench import registry
    from vitptq.bench.board.metrics import needs_tasks

    return {key: task.metrics for key, task in registry.tasks().items()} if needs_tasks(records) else {}


def _method_cards() -> dict[str, MethodCard]:
    from vitptq.bench import registry
    from vitptq.bench.board.method_card import MethodCard
    from vitptq.bench.source_hash import source_hash

    return {
        name: MethodCard(
            name=name, title=cls.title, summary=inspect.cleandoc(cls.__doc__ or ""), fidelity=cls.fidelity,
            inferred=cls.inferred, category=cls.category, paper=cls.paper, source_hash=source_hash(cls),
        )
        for name, cls in registry.methods().items()
    }  # fmt: skip


def _state(record: Record | None) -> str:
    return "" if record is None else "done" if record.status == "ok" else "failed"


def _wanted(record: Record | None, retry: Retry | None) -> bool:
    return record is None or (record.status == "failed" and retry is Retry.FAILED)


def _count(cells: list[Cell], records: Mapping[str, Record | None]) -> str:
    """Say how many cells there are, how many are measured, and how many failed."""
    states = [_state(records.get(cell.id)) for cell in cells]
    failures = f", {states.count('failed')} failed" if "failed" in states else ""
    return f"{len(cells)} cells, {states.count('done')} done{failures}"


def _summary(suite: str, records: list[Record | None], *, again: str = "") -> None:
    """Print how a suite stands; after a run, leave with exit code 1 if cells failed that should not have.

    `again` is the command of the run, for the hint on how to try the failed cells again.
    """
    from vitptq.bench.results.cell import labels

    names = labels([r.cell for r in records if r is not None])
    done = [r for r in records if r is not None and r.status == "ok"]
    failures = [r for r in records if r is not None and r.status == "failed"]
    shut = [r for r in done if not r.counts]
    for record in failures:
        assert record.failure is not None
        print(f"failed ({record.failure.kind}): {names[record.id]}: {record.failure.message}")
    for record in shut:
        assert record.gate is not None
        print(f"does not count: {names[record.id]}: {record.gate.reason}")
    missing = sum(record is None for record in records)
    print(
        f"{suite}: {len(done)} done ({len(shut)} behind a shut float gate), {len(failures)} failed, {missing} missing"
    )
    broken = [r for r in failures if r.failure and r.failure.kind != "unsupported"]
    if broken and again:
        print(f"try the failed cells again with: {again} --retry failed")
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
