"""The page of what has no number, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.board.tables import Table
from vitptq.bench.website.page import Content, Page


@dataclass(frozen=True, slots=True)
class Hole:
    """A combination that has no record at all, while its neighbours have one."""

    table: Table
    label: str
    bits: BitSpec


def pages(content: Content) -> Iterator[Page]:
    """Yield the page of what is missing."""
    yield Page("missing.html", "missing.html", {"holes": tuple(_holes(content.board))})


def _holes(board: Board) -> Iterator[Hole]:
    for table in board.tables:
        for line in table.lines:
            present = {row.bits for row in line}
            yield from (Hole(table, line[0].label, bits) for bits in table.bit_specs if bits not in present)
