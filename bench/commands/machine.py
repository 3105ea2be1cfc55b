"""Commands about this machine: what is here, the embedded data, adapters against the contract."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from vitptq.bench import completion
from vitptq.bench.commands.app import command
from vitptq.bench.commands.options import DEFAULT_RESULTS, Results
from vitptq.bench.errors import UnknownName


@command
def doctor(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Tasks to look at, such as imagenet/mini, coco or mini; all by default.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            metavar="SUITE",
            help="Tell whether this suite would run, and all that is missing for it.",
            autocompletion=completion.suite,
        ),
    ] = None,
) -> None:
    """Show versions, devices, data sets and checkpoints, and what to do about it; status 1 where a run cannot start."""
    from vitptq.bench.doctor import Report

    if suite is not None:
        _check_suite(suite, results)
        return

    report, fine = Report(results, tasks or ()), True
    for finding in report.findings():
        print(f"{'ok     ' if finding.fine else 'problem'}  {finding.what}: {finding.text}")
        fine = fine and finding.fine
    print(report.summary())
    if not fine:
        raise typer.Exit(1)


def _check_suite(suite: str, results: Path) -> None:
    """Print everything that is missing, the largest first; leave with exit code 1 if anything is."""
    from vitptq.bench import catalogue, suite_check
    from vitptq.bench.results.store import Store

    records = {record.id: record for record in Store(results).all(audits=False)[0]}
    found = suite_check.check(catalogue.cells(suite), records, results)
    for line in found.lines():
        print(line)
    print(found.summary(suite))
    if found.lacks:
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
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N, which is compared with the CPU.")] = "cpu",
) -> None:
    """Try an adapter against the contract, on small random models; takes well under a minute."""
    from vitptq.bench import registry
    from vitptq.bench.run import adapter_check
    from vitptq.bench.run.devices import choose_devices

    failures = 0
    for finding in adapter_check.check(registry.method(method), choose_devices(device)[0]):
        failures += not finding.ok
        print(
            f"{'ok    ' if finding.ok else 'FAILED'}  {finding.rule}{': ' if finding.problem else ''}{finding.problem}",
            flush=True,
        )
    print(f"{method}: {'keeps the contract' if not failures else f'{failures} rules broken'}")
    if failures:
        raise typer.Exit(1)


def _advance(bars: Progress, bar: TaskID, done: int, total: int) -> None:
    bars.update(bar, completed=done, total=total)
