"""Commands that read results: verification, tables, comparisons, the website."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from vitptq.bench.commands.app import command
from vitptq.bench.commands.options import DEFAULT_RESULTS, Adapters, Only, Results, ResultsFolders, results_folders
from vitptq.bench.commands.selected_cells import load_adapters
from vitptq.bench.commands.stored_board import leave, say_left_out, say_not_compared, stored_board
from vitptq.bench.errors import brief

if TYPE_CHECKING:  # torch takes seconds to import, so commands import what they need
    from vitptq.bench.board.board import Board
    from vitptq.bench.board.paper_table.layout import PaperTable
    from vitptq.bench.website.claim_book import ClaimBook


class Format(enum.StrEnum):
    """How `board` prints."""

    TABLE = "table"
    CSV = "csv"
    LATEX = "latex"
    JSON = "json"
    MARKDOWN = "markdown"


@command
def verify(
    results: Results = DEFAULT_RESULTS,
    submission: Annotated[
        Path | None,
        typer.Option(
            "--submission", metavar="FOLDER", help="Judge a folder of somebody's records beside those in --results."
        ),
    ] = None,
    adapter: Adapters = None,
) -> None:
    """Recompute every score from its evidence and report each difference."""
    from rich.progress import track

    from vitptq.bench.results.store import Store
    from vitptq.bench.results.verify import verify as verdicts

    load_adapters(adapter)
    if submission is not None:
        _judge(submission, results)
        return
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


def _judge(folder: Path, results: Path) -> None:
    """Print each reason to refuse a folder of records; leave with exit code 1 where there is one."""
    from vitptq.bench.results.store import Store
    from vitptq.bench.results.submission import problems

    found = list(problems(folder, Store(results)))
    print(*found, f"{folder}: {len(found)} reasons to refuse it" if found else f"{folder} can be taken", sep="\n")
    if found:
        raise typer.Exit(1)


@command
def board(
    results: ResultsFolders = None,
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
    found = stored_board(results_folders(results), only, metric)
    print(render(found.board, format.value), end="")
    say_not_compared(found.noises)
    leave(found.left_out)


class TableFormat(enum.StrEnum):
    """How `table` prints."""

    LATEX = "latex"
    MARKDOWN = "markdown"
    CSV = "csv"
    HTML = "html"


class PublishedNumbers(enum.StrEnum):
    """What `table` does with published numbers."""

    NONE = "none"
    BESIDE = "beside"
    INSTEAD = "instead"


@command
def table(
    results: ResultsFolders = None,
    only: Only = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="NAME[:KEY=VALUE],...", help="Rows, in this order; separate with ;.")
    ] = "",
    models: Annotated[str, typer.Option("--models", metavar="NAME,...", help="Columns, in this order.")] = "",
    bits: Annotated[str, typer.Option("--bits", metavar="BITS,...", help="Sections, in this order.")] = "",
    metrics: Annotated[str, typer.Option("--metrics", metavar="NAME,...", help="Scores of each model.")] = "",
    format: Annotated[TableFormat, typer.Option("--format", help="How to print it.")] = TableFormat.LATEX,
    decimals: Annotated[int, typer.Option(min=1, max=2, help="Digits behind the point.")] = 2,
    intervals: Annotated[bool, typer.Option(help="Half of each score's 95 % interval.")] = True,
    floats: Annotated[bool, typer.Option("--float/--no-float", help="A row with the float models.")] = True,
    published: Annotated[
        PublishedNumbers, typer.Option("--claims", help="Published numbers beside the measured ones, or instead.")
    ] = PublishedNumbers.NONE,
    paper: Annotated[
        str, typer.Option("--paper", metavar="PAPER:TABLE", help="A paper's own table, such as aphq-vit:table1.")
    ] = "",
    caption: Annotated[str, typer.Option(help="Instead of the caption that is made.")] = "",
    label: Annotated[str, typer.Option(help="LaTeX's label.")] = "",
    wide: Annotated[bool, typer.Option("--wide", help="Over both columns of a two-column page.")] = False,
    footnote: Annotated[list[str] | None, typer.Option("--footnote", help="A sentence behind the caption.")] = None,
    bib: Annotated[
        Path | None,
        typer.Option("--bib", metavar="FILE", help="Write BibTeX of methods, data set and board."),
    ] = None,
    adapter: Adapters = None,
) -> None:
    """Print a comparison table for a paper: rows methods, columns models, sections bit widths."""
    from vitptq.bench.board.paper_table.formats import Style, render

    load_adapters(adapter)
    folders = results_folders(results)
    if paper:
        made, left_out = _table_of_paper(paper, folders), 0
        published = PublishedNumbers.BESIDE if published is PublishedNumbers.NONE else published
    else:
        made, left_out = _chosen_table(folders, only, methods, models, bits, metrics, floats, published)
    style = Style(decimals, intervals, published.value, caption, label, wide, tuple(footnote or ()))
    print(render(made, format.value, style), end="")
    if bib is not None:
        _write_bibliography(bib, made)
    leave(left_out)


def _chosen_table(
    results: list[Path], only: list[str] | None, methods: str, models: str, bits: str, metrics: str, floats: bool,
    published: PublishedNumbers,
) -> tuple[PaperTable, int]:  # fmt: skip
    from vitptq.bench.bits import BitSpec
    from vitptq.bench.board.paired_comparison import Reference
    from vitptq.bench.board.paper_table.claimed import Claimed
    from vitptq.bench.board.paper_table.layout import Choice, paper_table
    from vitptq.bench.results import claim_names, claims

    found = stored_board(results, only)
    choice = Choice(
        tuple(Reference.parse(text) for text in _parts(methods, ";" if ";" in methods or ":" in methods else ",")),
        tuple(_parts(models)), tuple(BitSpec.parse(text) for text in _parts(bits)), tuple(_parts(metrics)), floats,
    )  # fmt: skip
    wanted = published is not PublishedNumbers.NONE
    claimed = Claimed.among(claims.read(), claim_names.read()) if wanted else None
    made = paper_table(found.board, choice, claimed)
    say_not_compared(found.noises)
    return made, found.left_out


def _table_of_paper(name: str, results: list[Path]) -> PaperTable:
    """Return a paper's own table; the measured numbers are those of the results folders that are there."""
    from vitptq.bench.board.paper_table.published import published_table
    from vitptq.bench.results import claim_names, claims

    there = [folder for folder in results if (folder / "records").is_dir()]
    measured = stored_board(there).board if there else None
    return published_table(name, claims.read(), claim_names.read(), measured)


def _write_bibliography(path: Path, made: PaperTable) -> None:
    from vitptq.bench import catalogue
    from vitptq.bench.board.bibliography import bibliography
    from vitptq.bench.run import provenance

    cards = catalogue.method_cards()
    head, dirty = provenance.commit()
    version = head[:12] + (" with changes" if dirty else "")
    shown = [cards[name] for name in made.methods if name in cards]
    path.write_text(bibliography(shown, [made.task], version, int(provenance.now()[:4])), encoding="utf-8")
    print(f"vitptq: {len(shown)} methods, the data set and the board are in {path}", file=sys.stderr)


def _parts(text: str, separator: str = ",") -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]


@command
def compare(
    reference: Annotated[
        str,
        typer.Argument(metavar="METHOD[:KEY=VALUE,...]", help="The method (with these parameters) to compare with."),
    ],
    results: ResultsFolders = None,
    only: Only = None,
    adapter: Adapters = None,
) -> None:
    """Print every method's difference to one of them, on the same images and calibration draws.

    Rows that are left out belong to no family of the verdicts' correction.
    """
    from vitptq.bench.board.paired_comparison import Reference, as_markdown

    load_adapters(adapter)
    found = stored_board(results_folders(results), only)
    print(as_markdown(found.board, Reference.parse(reference)), end="")
    say_left_out(found.noises.left_out)
    leave(found.left_out + len(found.noises.left_out))


@command
def site(
    out: Annotated[Path, typer.Option("--out", help="Folder to build; replaced when it is a site already.")],
    results: ResultsFolders = None,
    base_url: Annotated[
        str, typer.Option("--base-url", metavar="URL", help="Where it will stand, for the site map and link previews.")
    ] = "",
    release: Annotated[
        str, typer.Option("--release", metavar="DATE", help="Keep this build for good, at releases/DATE/ of the site.")
    ] = "",
    serve: Annotated[
        bool, typer.Option("--serve", help="Show it on this machine; changes appear by themselves.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="For --serve; 0 takes a free one.")] = 8000,
    adapter: Adapters = None,
) -> None:
    """Build the static leaderboard and print the path of its first page."""
    from vitptq.bench.run import provenance
    from vitptq.bench.website.build import build
    from vitptq.bench.website.past import read_past
    from vitptq.bench.website.templates import documents, shipped

    load_adapters(adapter)
    head, dirty = provenance.commit()
    version = head[:12] + ("+changes" if dirty else "")
    folders = results_folders(results)
    found = stored_board(folders)
    past, unread = read_past(folders)
    say_left_out(unread)
    index = build(
        found.board, out, templates=shipped(), version=version, folders=found.folders, book=_claim_book(found.board),
        past=past, docs=documents(), base_url=base_url, release=release, progress=_site_progress(),
    )  # fmt: skip
    print(f"leaderboard: {index.resolve()}")
    say_not_compared(found.noises)
    if serve:
        _serve(out, port, [*folders, shipped(), *filter(None, [documents()])])
    leave(found.left_out)


def _site_progress() -> Callable[[int, int], None] | None:
    """Return what shows how many pages are written; None where nobody looks."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        if done == of or not done % 100:
            print(f"\rvitptq: {done} of {of} pages", end="\n" if done == of else "", file=sys.stderr, flush=True)

    return show


def _serve(out: Path, port: int, watched: list[Path]) -> None:
    """Serve the site; each new build is another process, which reads changed code as well."""
    import subprocess

    from vitptq.bench.website.serve import serve

    again = [sys.executable, "-m", "vitptq.bench.cli", *_without_serving(sys.argv[1:])]
    serve(out, port, watched, lambda: subprocess.run(again, check=False).returncode == 0)


def _without_serving(arguments: list[str]) -> list[str]:
    """Return the arguments for the builds that follow: a release is made once.

    >>> _without_serving(["site", "--out", "x", "--serve", "--port", "0", "--release=2026-11-28"])
    ['site', '--out', 'x']
    """
    kept, waiting = [], iter(arguments)
    for argument in waiting:
        name, equals, _ = argument.partition("=")
        if name in ("--port", "--release"):
            if not equals:
                next(waiting, None)
        elif name != "--serve":
            kept.append(argument)
    return kept


def _claim_book(board: Board) -> ClaimBook | None:
    """Return the published numbers beside the board; None outside a clone, where there are none."""
    from vitptq.bench import catalogue
    from vitptq.bench.results import claim_names, claims
    from vitptq.bench.results.claims import EDITION
    from vitptq.bench.website.claim_book import ClaimBook

    if not (claims.FOLDER / claims.FILE).is_file():
        return None
    return ClaimBook.of(claims.read(), claim_names.read(), board, catalogue.model_cards(EDITION))
