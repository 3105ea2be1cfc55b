"""Commands that list what there is: methods, tasks, models, suites, published numbers."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from vitptq.bench.commands.app import command
from vitptq.bench.commands.options import DEFAULT_RESULTS


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
