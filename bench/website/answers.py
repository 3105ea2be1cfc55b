"""Which method to take: per model and bit width those that no other is shown to beat, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table


@dataclass(frozen=True, slots=True)
class Answer:
    """One method that nothing is shown to beat, at one bit width of one model."""

    table: Table
    bits: BitSpec
    row: Row
    standing: str


def answers(tables: Iterable[Table]) -> Iterator[Answer]:
    """Yield the first tie group of every model and bit width, or the highest row where nothing could be compared."""
    for table in tables:
        for bits in table.bit_specs:
            winners = table.winners(bits)
            for row in winners or filter(None, (table.highest(bits),)):
                yield Answer(table, bits, row, _standing(table, bits, winners))


def _standing(table: Table, bits: BitSpec, winners: tuple[Row, ...]) -> str:
    rivals = sum(row.comparable for row in table.at(bits)) - 1
    if rivals == 0:
        return "no other measured"
    unknown = len(table.uncompared(bits))
    compared = rivals - unknown
    if not winners or compared == 0:
        return "not compared"
    ties = len(winners) - 1
    said = f"ties with {ties} of {compared}" if ties else f"better than {compared}"
    return f"{said}; {unknown} not compared" if unknown else said
