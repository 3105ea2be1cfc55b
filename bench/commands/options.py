"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitptq.bench import completion

Results = Annotated[Path, typer.Option("--results", help="Results folder; any number of runs may share one.")]
ResultsFolders = Annotated[
    list[Path] | None,
    typer.Option("--results", help="Results folder; several are shown together, the newest record of each cell."),
]
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


def results_folders(named: list[Path] | None) -> list[Path]:
    """Return the results folders that a command shows."""
    return named or [DEFAULT_RESULTS]


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
