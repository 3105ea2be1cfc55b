"""The board of a results folder, and what is said of records that are not on it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vitptq.bench.errors import BadInput

if TYPE_CHECKING:  # torch takes seconds to import, so commands import what they need
    from vitptq.bench.board.board import Board
    from vitptq.bench.board.stored_noise import PlacedNoise
    from vitptq.bench.results.folders import Folders


@dataclass(frozen=True)
class StoredBoard:
    """The board of one or several results folders, with what it was made from."""

    board: Board
    noises: PlacedNoise
    folders: Folders
    left_out: int
    """How many records are not on it because they cannot be read."""


def stored_board(results: Sequence[Path], only: list[str] | None = None, metric: str = "") -> StoredBoard:
    """Read the board of these folders, and say which records are not on it because they cannot be read."""
    from vitptq.bench import catalogue
    from vitptq.bench.board.board import Board
    from vitptq.bench.board.metrics import needs_tasks
    from vitptq.bench.board.stored_noise import PlacedNoise
    from vitptq.bench.results import suites
    from vitptq.bench.results.folders import Folders

    folders = Folders(results)
    folders.require()
    records, problems = folders.all()
    say_left_out(problems)
    if not records:
        named = ", ".join(map(str, results))
        raise BadInput(f"none of the {len(problems)} records in {named} can be read, so there is no board")
    if only:
        kept = {cell.id for cell in suites.select([record.cell for record in records], only, "these results")}
        records = [record for record in records if record.id in kept]
    metrics, noises = catalogue.metrics() if needs_tasks(records) else {}, PlacedNoise(folders)
    board = Board.from_records(records, catalogue.method_cards(), metrics, noises, metric, folders.origins)
    return StoredBoard(board, noises, folders, len(problems))


def say_not_compared(noises: PlacedNoise) -> None:
    """Say how many records have a score and no comparison; the tables say whose."""
    if noises.left_out:
        print(
            f"vitptq: {len(noises.left_out)} records are not compared, because their evidence cannot be used; "
            "vitptq verify names every problem",
            file=sys.stderr,
        )


def say_left_out(problems: list[str]) -> None:
    """Say which records cannot be read, a line each."""
    for problem in problems:
        print(f"vitptq: left out: {problem}", file=sys.stderr)


def leave(left_out: int) -> None:
    """Leave with exit code 1 where something was left out, so that no script takes a part for the whole."""
    if left_out:
        print(f"vitptq: {left_out} records were left out; vitptq verify names every problem", file=sys.stderr)
        raise typer.Exit(1)
