"""Commands that read results: verification, tables, comparisons, the website."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vitptq.bench.commands.app import command
from vitptq.bench.commands.options import DEFAULT_RESULTS, Adapters, Only, Results
from vitptq.bench.commands.selected_cells import load_adapters
from vitptq.bench.commands.stored_board import leave, say_left_out, say_not_compared, stored_board
from vitptq.bench.errors import brief


class Format(enum.StrEnum):
    """How `board` prints."""

    TABLE = "table"
    CSV = "csv"
    LATEX = "latex"
    JSON = "json"
    MARKDOWN = "markdown"


@command
def verify(results: Results = DEFAULT_RESULTS, adapter: Adapters = None) -> None:
    """Recompute every score from its evidence and report each difference."""
    from rich.progress import track

    from vitptq.bench.results.store import Store
    from vitptq.bench.results.verify import verify as verdicts

    load_adapters(adapter)
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

    load_adapters(adapter)
    board, noises, left_out = stored_board(results, only, metric)
    print(render(board, format.value), end="")
    say_not_compared(noises)
    leave(left_out)


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

    load_adapters(adapter)
    board, noises, left_out = stored_board(results)
    print(as_markdown(board, Reference.parse(reference)), end="")
    say_left_out(noises.left_out)
    leave(left_out + len(noises.left_out))


@command
def site(
    out: Annotated[Path, typer.Option("--out", help="Folder to build; replaced when it is a site already.")],
    results: Results = DEFAULT_RESULTS,
    adapter: Adapters = None,
) -> None:
    """Build the static leaderboard and print the path of its first page."""
    from vitptq.bench.run import provenance
    from vitptq.bench.website.build import build

    load_adapters(adapter)
    head, dirty = provenance.commit()
    version = head[:12] + ("+changes" if dirty else "")
    board, noises, left_out = stored_board(results)
    index = build(board, out, templates=_templates(), version=version, evidence_dir=results / "evidence")
    print(f"leaderboard: {index.resolve()}")
    say_not_compared(noises)
    leave(left_out)


def _templates() -> Path:
    """Return the folder of the templates: in a clone at the top, in an installed package beside this file."""
    root = Path(__file__).resolve().parents[2]
    return root / "site" if (root / "site" / "base.html").is_file() else root / "_site"
