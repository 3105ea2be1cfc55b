"""Commands that measure: plan, run, and how a suite stands."""

from __future__ import annotations

import enum
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitptq.bench.commands.app import command
from vitptq.bench.commands.options import DEFAULT_RESULTS, Adapters, Methods, Only, Results, SuiteName
from vitptq.bench.commands.selected_cells import cells_of, command_line, load_adapters
from vitptq.bench.commands.stored_board import say_left_out
from vitptq.bench.contracts.locations import NO_CACHE
from vitptq.bench.errors import BadInput

if TYPE_CHECKING:  # torch takes seconds to import, so commands import what they need
    from vitptq.bench.results.cell import Cell
    from vitptq.bench.results.record import Record


class Retry(enum.StrEnum):
    """Which finished cells `run` measures again."""

    FAILED = "failed"


class ExecutorChoice(enum.StrEnum):
    """Where cells run."""

    LOCAL = "local"
    RAY = "ray"


class Precision(enum.StrEnum):
    """How products are computed in an evaluation."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"


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

    cells = cells_of(suite, only, method, adapter)
    readable, problems = Store(results).all(audits=False)
    say_left_out(problems)
    records = {record.id: record for record in readable}
    estimates = Estimates(readable, catalogue.families())
    expected = {cell.id: estimates.of(cell) for cell in cells if cell.id not in records}
    names = labels(cells)
    lines = []
    for cell in cells:
        found = expected.get(cell.id)
        left = clock(found.seconds if found else None) if cell.id in expected else ""
        lines.append(f"{_state(records.get(cell.id)):<7}  {left:>8}  {names[cell.id]}")
    print(*lines, sep="\n")
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
    if images := str(catalogue.image_room(cells)):
        print(images)


def _keep_no_images(asked: bool) -> bool:
    if asked:
        os.environ[NO_CACHE] = "1"  # for the workers, too
    return asked


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
    executor: Annotated[
        ExecutorChoice, typer.Option(help="Processes of this machine, or the nodes of a Ray cluster.")
    ] = ExecutorChoice.LOCAL,
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="The Ray cluster; auto: the one here.")] = "auto",
    retry: Annotated[Retry | None, typer.Option(help="Measure failed cells again.")] = None,
    past_gate: Annotated[
        bool,
        typer.Option("--past-gate", help="Measure on float models that miss their reference, apart from the board."),
    ] = False,
    limit: Annotated[float, typer.Option(min=0.01, help="Minutes after which a cell counts as hung.")] = 240,
    precision: Annotated[
        Precision,
        typer.Option(help="Of the evaluation's products; all but fp32 make rows of their own, unranked."),
    ] = Precision.FP32,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Evaluate through torch.compile: faster on a GPU, the same scores but for rounding."
        ),
    ] = False,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            callback=_keep_no_images,
            help="Keep no decoded images on disk; decode what memory has no room for.",
        ),
    ] = False,
) -> None:
    """Measure a suite's cells. Kill it when you like: the same command goes on where it was."""
    from vitptq.bench import catalogue, registry
    from vitptq.bench.results import suites
    from vitptq.bench.results.store import Store
    from vitptq.bench.run import provenance
    from vitptq.bench.run.cell_run import wanted
    from vitptq.bench.run.plan import Plan
    from vitptq.bench.run.progress import RunProgress
    from vitptq.bench.run.schedule import run_cells
    from vitptq.bench.run.time_estimate import Estimates

    cells = cells_of(suite, only, method, adapter, precision.value)
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
    again = command_line("run", suite, methods=method, adapters=adapter)
    again += f" --precision {precision.value}" if precision is not Precision.FP32 else ""
    again += " --compile" if compiled else ""
    catalogue.method_cards()  # torch is loaded here, so the board after the run need not load it
    if todo:
        store.probe()
        if problem := provenance.commit_problem():
            print(f"vitptq: {problem}", file=sys.stderr)
    with RunProgress(len(todo), catalogue.ranking_metrics(), seconds=seconds) as progress:
        plan = Plan(
            results, device, workers, limit * 60, retry is not None, past_gate, registry.added_files(), again, compiled,
            executor=executor.value, address=address,
        )  # fmt: skip
        if todo:
            run_cells(todo, plan, progress.finished, progress.steps)
    options = [*(f"--only={text}" for text in only or []), f"--results={results}"]
    now, worse = store.of(todo)
    _summary(suite, cells, known | now, unreadable | worse, again=f"{again} {shlex.join(options)}")


@command
def reproduce(
    record: Annotated[str, typer.Argument(metavar="RECORD", help="A record's file, or the first digits of its id.")],
    results: Results = DEFAULT_RESULTS,
    adapter: Adapters = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Keep what is measured here; by default it is dropped.")
    ] = None,
) -> None:
    """Measure one cell again from its record and compare; status 1 where the results differ."""
    import tempfile

    from vitptq.bench import catalogue, registry
    from vitptq.bench.results.store import Store
    from vitptq.bench.run import reproduction
    from vitptq.bench.run.plan import Plan
    from vitptq.bench.run.progress import RunProgress
    from vitptq.bench.run.schedule import run_cells

    load_adapters(adapter)
    old = reproduction.find_record(record, Store(results))
    cell = reproduction.repeatable_cell(old)
    os.environ["OMP_NUM_THREADS"] = str(old.provenance.threads)  # sums are split by threads
    metrics = catalogue.ranking_metrics()
    with tempfile.TemporaryDirectory(prefix="vitptq-reproduced-") as temporary, RunProgress(1, metrics) as progress:
        store = Store(out or Path(temporary))
        if store.record(cell) is not None:
            raise BadInput(f"{store.root} holds this cell already; give an empty folder with --out")
        run_cells(
            [cell], Plan(store.root, device, 1, adapters=registry.added_files()), progress.finished, progress.steps
        )
        new = store.record(cell)
    assert new is not None  # run_cells returns when every cell has a record
    verdict = reproduction.compare(old, new)
    print(*verdict.lines, sep="\n")
    if not verdict.equal:
        raise typer.Exit(1)


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

    cells = cells_of(suite, only, method, adapter)
    _summary(suite, cells, *Store(results).of(cells))


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
    say_left_out(list(unreadable.values()))
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
