"""Boards and rows made to order for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.bench.noise_factory import PlantedNoise
from tests.bench.record_factory import make_cards, make_cell, make_provenance, make_record
from vitptq.bench.board.board import Board
from vitptq.bench.board.image_noise import ImageNoises
from vitptq.bench.board.method_card import MethodCard
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.results.record import Provenance, Record


def only_row(records: Iterable[Record], cards: Mapping[str, MethodCard] | None = None) -> Row:
    """Return the one row that the records make."""
    (row,) = Board.from_records(records, make_cards() if cards is None else cards).rows
    return row


def board_of(
    *records: Record, cards: Mapping[str, MethodCard] | None = None, noises: ImageNoises | None = None
) -> Board:
    """Return the board of some records; their images are as hard for one method as for another."""
    return Board.from_records(records, make_cards() if cards is None else cards, noises=noises or PlantedNoise())


def only_table(records: Iterable[Record], noises: ImageNoises | None = None) -> Table:
    """Return the one table that the records make."""
    (table,) = Board.from_records(records, make_cards(), noises=noises or PlantedNoise()).tables
    return table


def seeds(*scores: float, **changes: Any) -> list[Record]:
    """Return a record per score, of seeds 0, 1, ... of one cell."""
    return [make_record(make_cell(seed=i, **changes), score=s) for i, s in enumerate(scores)]


def row_of(board: Board | Table, **wanted: Any) -> Row:
    """Return the one row whose cell has these fields."""
    (row,) = (r for r in board.rows if all(getattr(r.cell, k) == v for k, v in wanted.items()))
    return row


def finished(day: int) -> Provenance:
    """Return the provenance of a record that was finished on a day of January."""
    return make_provenance(finished=f"2026-01-{day:02}T00:00:00+00:00")
