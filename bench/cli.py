"""The command `vitptq`."""

from __future__ import annotations

import enum
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import partial, wraps
from importlib.metadata import PackageNotFoundError, version
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from vitptq.bench import completion, process
from vitptq.bench.errors import BadInput, UnknownName, VitptqError, brief

if TYPE_CHECKING:  # torch takes seconds to import, so commands import what they need
    from vitptq.bench.board.board import Board
    from vitptq.bench.board.stored_noise import StoredNoise
    from vitptq.bench.results.cell import Cell
    from vitptq.bench.results.record import Record

app = typer.Typer(
    name="vitptq",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Results = Annotated[Path, typer.Option("--results", help="Results folder; any number of runs may share one.")]
SuiteName = Annotated[
    str,
    typer.Argument(metavar="SUITE", help="A suite's name, or a path to a TOML file.", autocompletion=completion.suite),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="KEY=VALUE[,VALUE]",
        autocompletion=completion.only,
        help="Keep matching cells: task, model, family (or group of families, as hybrid), method, bits, seed ...",
    ),
]
DEFAULT_RESULTS = Path("results")
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="NAME|FILE",
        help="Take this method (or the one in this file) instead of the suite's.",
        autocompletion=completion.method,
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


class OfClaims(enum.StrEnum):
    """What `claims` does."""

    LIST = "list"
    CHECK = "check"
    COVERAGE = "coverage"


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

    # the summary is given whole: typer cuts what it finds itself
    @app.command(function.__name__.rstrip("_"), short_help=cleandoc(function.__doc__ or ""))
    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        process.prepare()
        try:
            with process.stopped_by_sigterm():
                return function(*args, **kwargs)
        except VitptqError as error:
            print(f"vitptq: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stop:
            print(f"vitptq: {str(stop) or 'stopped'}; {_AFTER.get(function.__name__, _AFTER_ANY)}", file=sys.stderr)
            raise typer.Exit(143 if isinstance(stop, process.Terminated) else 130) from None
        except BrokenPipeError:  # `vitptq board | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:  # the user's disk, folders and rights; one line says which
            where = f" ({brief(error.filename, 400)})" if error.filename else ""
            print(f"vitptq: {error.strerror or error}{where}; choose another place, or mend this one", file=sys.stderr)
            raise typer.Exit(2) from None

    return guarded


_AFTER = {"run": "what was measured is kept, the same command goes on from here"}
_AFTER_ANY = "nothing was left half done, the same command starts anew"


def _show_version(asked: bool) -> None:
    if asked:
        try:
            print(f"vitptq {version('vitptq')}")
        except PackageNotFoundError:
            print("vitptq, not installed: run from its folder")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Measure post-training quantisation of vision transformers and publish the results as a static leaderboard."""


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
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD", help="A method's name, or a path to a Python file.", autocompletion=completion.method
        ),
    ],
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
    """Show a suite's cells, which are done, how long the rest will take and how much room on disk."""
    from vitptq.bench import catalogue
    from vitptq.bench.results.cell import labels
    from vitptq.bench.results.store import Store
    from vitptq.bench.run.disk_estimate import DiskEstimates, size
    from vitptq.bench.run.time_estimate import Estimates, clock

    cells = _cells(suite, only, method, adapter)
    readable, problems = Store(results).all(audits=False)
    _left_out(problems)
    records = {record.id: record for record in readable}
    estimates = Estimates(readable, catalogue.families())
    expected = {cell.id: estimates.of(cell) for cell in cells if cell.id not in records}
    names = labels(cells)
    for cell in cells:
        found = expected.get(cell.id)
        left = clock(found.seconds if found else None) if cell.id in expected else ""
        print(f"{_state(records.get(cell.id)):<7}  {left:>8}  {names[cell.id]}")
    known = [found for found in expected.values() if found is not None]
    rough = sum(not found.learned for found in known)
    unknown = len(expected) - len(known)
    print(
        f"{_count(cells, records)}; remaining about {clock(sum(found.seconds for found in known))} on one worker"
        + (f" ({rough} of them by rough figures, as nothing like them was measured here)" if rough else "")
        + (f" and {unknown} cells like none known" if unknown else "")
    )
    room = DiskEstimates(readable, results / "evidence", catalogue.families())
    print(f"they need about {size(sum(room.of(cell) for cell in cells if cell.id in expected))} on disk")


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
    past_gate: Annotated[
        bool,
        typer.Option("--past-gate", help="Measure on float models that miss their reference, apart from the board."),
    ] = False,
    limit: Annotated[float, typer.Option(min=0.01, help="Minutes after which a cell counts as hung.")] = 240,
) -> None:
    """Measure a suite's cells. Kill it when you like: the same command goes on where it was."""
    from vitptq.bench import catalogue, registry
    from vitptq.bench.contracts.task import ranking
    from vitptq.bench.results import suites
    from vitptq.bench.results.store import Store
    from vitptq.bench.run import provenance
    from vitptq.bench.run.cell_run import wanted
    from vitptq.bench.run.progress import RunProgress
    from vitptq.bench.run.schedule import Plan, run_cells
    from vitptq.bench.run.time_estimate import Estimates

    cells = _cells(suite, only, method, adapter)
    cells = suites.shard(cells, shard) if shard else cells
    store = Store(results)
    measured = {record.id: record for record in store.all(audits=False)[0]}  # read once, however many there are
    known = {cell.id: measured[cell.id] for cell in cells if cell.id in measured}
    unreadable = store.of(cell for cell in cells if cell.id not in known)[1]
    todo = [
        cell
        for cell in cells
        if cell.id not in unreadable and wanted(known.get(cell.id), retry=retry is Retry.FAILED, past_gate=past_gate)
    ]
    estimates = Estimates(measured.values(), catalogue.families())
    found = {cell.id: estimates.of(cell) for cell in todo}
    seconds = {cell_id: estimate.seconds for cell_id, estimate in found.items() if estimate is not None}
    todo.sort(key=lambda cell: -seconds.get(cell.id, float("inf")))  # longest first, so that workers end together
    print(f"{suite}: {_count(cells, known)} before; results in {results}", flush=True)
    again = _command("run", suite, methods=method, adapters=adapter)
    metric = {key: ranking(declared).name for key, declared in catalogue.metrics().items()}
    catalogue.method_cards()  # torch is loaded here, so the board after the run need not load it
    if todo:
        store.probe()
        if problem := provenance.commit_problem():
            print(f"vitptq: {problem}", file=sys.stderr)
    with RunProgress(len(todo), metric, seconds=seconds) as progress:
        plan = Plan(results, device, workers, limit * 60, retry is not None, past_gate, registry.added_files(), again)
        if todo:
            run_cells(todo, plan, progress.finished, progress.steps)
    options = [*(f"--only={text}" for text in only or []), f"--results={results}"]
    now, worse = store.of(todo)
    _summary(suite, cells, known | now, unreadable | worse, again=f"{again} {shlex.join(options)}")


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

    cells = _cells(suite, only, method, adapter)
    _summary(suite, cells, *Store(results).of(cells))


@command
def verify(results: Results = DEFAULT_RESULTS, adapter: Adapters = None) -> None:
    """Recompute every score from its evidence and report each difference."""
    from rich.progress import track

    from vitptq.bench.results.store import Store
    from vitptq.bench.results.verify import verify as verdicts

    _load(adapter)
    store = Store(results)
    store.require()
    records, bad = store.all()
    checked = 0
    console = Console(stderr=True)
    for verdict in track(verdicts(store, records), "verifying", console=console, disable=not console.is_terminal):
        checked += 1
        label = brief(verdict.record.cell.label(), 200)
        bad += [f"{label} ({verdict.record.id[:12]}): {problem}" for problem in verdict.problems]
    for line in bad:
        print(line)
    print(f"{checked} scores recomputed, {len(bad)} problems")
    if bad:
        raise typer.Exit(1)


@command
def board(
    results: Results = DEFAULT_RESULTS,
    format: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    only: Only = None,
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="Rank by this metric, for example mask_ap.")
    ] = "",
    adapter: Adapters = None,
) -> None:
    """Print the aggregated results; rows that are left out take part in no comparison."""
    from vitptq.bench.board.exports.formats import render

    _load(adapter)
    board, noises, left_out = _board(results, only, metric)
    print(render(board, format.value), end="")
    _not_compared(noises)
    _leave(left_out)


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

    _load(adapter)
    board, noises, left_out = _board(results)
    print(as_markdown(board, Reference.parse(reference)), end="")
    _left_out(noises.left_out)
    _leave(left_out + len(noises.left_out))


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
    board, noises, left_out = _board(results)
    index = build(board, out, templates=_templates(), version=version, evidence_dir=results / "evidence")
    print(f"leaderboard: {index.resolve()}")
    _not_compared(noises)
    _leave(left_out)


@command
def list_(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """List methods, tasks, models or suites."""
    for line in {
        Listed.METHODS: _methods, Listed.TASKS: _tasks, Listed.MODELS: _models, Listed.SUITES: _suites,
    }[what]():  # fmt: skip
        print(line)


@command
def claims(
    what: Annotated[OfClaims, typer.Argument(help="list, check the file, or the coverage by the full suites.")],
    folder: Annotated[
        Path, typer.Option("--claims", metavar="DIR", help="Folder of claims.csv and names.toml.")
    ] = DEFAULT_RESULTS / "claims",
) -> None:
    """List the published numbers, check their file, or tell which of them the full suites measure and why not."""
    from vitptq.bench.results import claim_names, claims, coverage

    rows = claims.read(folder)
    if what is OfClaims.LIST:
        print(*map(str, rows), sep="\n")
        return
    names = claim_names.read(folder)
    if what is OfClaims.COVERAGE:
        print(*coverage.report(coverage.coverage(rows, names)), sep="\n")
        return
    found = [*coverage.problems(rows, names), *(f"said twice: {claim}" for claim in claims.repeated(rows))]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(rows)} claims, {sum(not c.url for c in rows)} without an address, {len(found)} problems")
    if found:
        raise typer.Exit(1)


def _advance(bars: Progress, bar: TaskID, done: int, total: int) -> None:
    bars.update(bar, completed=done, total=total)


def _cells(suite: str, only: list[str] | None, methods: list[str] | None, adapters: list[Path] | None) -> list[Cell]:
    from vitptq.bench import catalogue
    from vitptq.bench.results import suites

    _load(adapters)
    return suites.select(catalogue.cells(suite, methods or []), only or [])


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

    return [f"{name:<28} {title}" for name, title in suites.names().items()]


def _board(results: Path, only: list[str] | None = None, metric: str = "") -> tuple[Board, StoredNoise, int]:
    """Return the board, its evidence, and how many records are not on it because they cannot be read."""
    from vitptq.bench import catalogue
    from vitptq.bench.board.board import Board
    from vitptq.bench.board.metrics import needs_tasks
    from vitptq.bench.board.stored_noise import StoredNoise
    from vitptq.bench.results import suites
    from vitptq.bench.results.store import Store

    store = Store(results)
    store.require()
    records, problems = store.all()
    _left_out(problems)
    if not records:
        raise BadInput(f"none of the {len(problems)} records in {results} can be read, so there is no board")
    if only:
        kept = {cell.id for cell in suites.select([record.cell for record in records], only, "these results")}
        records = [record for record in records if record.id in kept]
    metrics, noises = catalogue.metrics() if needs_tasks(records) else {}, StoredNoise(store)
    return Board.from_records(records, catalogue.method_cards(), metrics, noises, metric), noises, len(problems)


def _not_compared(noises: StoredNoise) -> None:
    """Say how many records have a score and no comparison; the tables say whose."""
    if noises.left_out:
        print(
            f"vitptq: {len(noises.left_out)} records are not compared, because their evidence cannot be used; "
            "vitptq verify names every problem",
            file=sys.stderr,
        )


def _left_out(problems: list[str]) -> None:
    for problem in problems:
        print(f"vitptq: left out: {problem}", file=sys.stderr)


def _leave(left_out: int) -> None:
    """Leave with exit code 1 where something was left out, so that no script takes a part for the whole."""
    if left_out:
        print(f"vitptq: {left_out} records were left out; vitptq verify names every problem", file=sys.stderr)
        raise typer.Exit(1)


def _state(record: Record | None) -> str:
    return "" if record is None else "done" if record.status == "ok" else "failed"


def _count(cells: list[Cell], records: Mapping[str, Record | None]) -> str:
    """Say how many cells there are, how many are measured, and how many failed."""
    states = [_state(records.get(cell.id)) for cell in cells]
    failures = f", {states.count('failed')} failed" if "failed" in states else ""
    return f"{len(cells)} cells, {states.count('done')} done{failures}"


def _summary(
    suite: str, cells: list[Cell], found: Mapping[str, Record], unreadable: Mapping[str, str], *, again: str = ""
) -> None:
    """Print how a suite stands; leave with exit code 1 if a record cannot be read, or cells failed that should not.

    `found` and `unreadable` are the records, and what is wrong with those that cannot be read, by the cell's id;
    `again` is the command of the run, for the hint on how to try the failed cells again.
    """
    from vitptq.bench.results.cell import labels

    records = list(found.values())
    names = labels([r.cell for r in records])
    done = [r for r in records if r.status == "ok"]
    failures = [r for r in records if r.status == "failed"]
    shut = [r for r in done if not r.counts]
    _left_out(list(unreadable.values()))
    for record in failures:
        assert record.failure is not None
        print(f"{record.failure.headline}: {names[record.id]}: {record.failure.message}")
    for record in shut:
        assert record.gate is not None
        print(f"does not count: {names[record.id]}: {record.gate.reason}")
    missing = len(cells) - len(records) - len(unreadable)
    skipped = [r for r in failures if r.failure and r.failure.kind == "gate"]
    print(
        f"{suite}: {len(done)} done ({len(shut)} behind a shut float gate), {len(failures) - len(skipped)} failed, "
        f"{missing} missing"
        + (f", {len(skipped)} skipped" if skipped else "")
        + (f", {len(unreadable)} unreadable" if unreadable else "")
    )
    broken = [r for r in failures if r.failure and r.failure.kind != "unsupported"]
    if broken and again:
        print(f"try the failed cells again with: {again} --retry failed")
    if (broken and again) or unreadable:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
