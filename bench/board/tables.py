"""A table: all rows of one task, edition and model, their order, and the ranks that the intervals allow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.metrics import secondary
from vitptq.bench.board.rows import Row
from vitptq.bench.contracts.task import Metric
from vitptq.bench.results.cell import canonical_json, sha256


@dataclass(frozen=True)
class Table:
    """All rows of one (task, edition, model), sorted for reading: float, then more bits first, then higher scores."""

    task: str
    edition: str
    model: str
    rows: tuple[Row, ...]
    metrics: tuple[Metric, ...]
    """What its rows have scores of, the ranking one first. Never empty."""

    @cached_property
    def id(self) -> str:
        """Return the identity: sha256 of task, edition and model."""
        return sha256(canonical_json([self.task, self.edition, self.model]).encode())

    @property
    def metric(self) -> Metric:
        """Return the metric that ranks."""
        return self.metrics[0]

    @property
    def secondary(self) -> tuple[Metric, ...]:
        """Return the metrics that are shown beside the ranking one everywhere."""
        return secondary(self.metrics)

    @cached_property
    def counted(self) -> tuple[Row, ...]:
        """Return the rows that have a score which counts."""
        return tuple(row for row in self.rows if row.counted)

    @property
    def floats(self) -> tuple[Row, ...]:
        """Return the float reference (several only where it was run with several parameters)."""
        return tuple(row for row in self.counted if row.is_float)

    @cached_property
    def quantised(self) -> tuple[Row, ...]:
        """Return the counted rows that are not the float reference."""
        return tuple(row for row in self.counted if not row.is_float)

    @cached_property
    def bit_specs(self) -> tuple[BitSpec, ...]:
        """Return the bit specs that anything was run at, more bits first; float is not among them."""
        return tuple(sorted({row.bits for row in self.rows if not row.is_float}, key=more_bits_first))

    @cached_property
    def lines(self) -> tuple[tuple[Row, ...], ...]:
        """Return the quantised rows by method and variant: one line of a methods x bits matrix each, by label."""
        lines: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            if not row.is_float:
                lines.setdefault((row.label, row.cell.method), []).append(row)
        return tuple(tuple(lines[key]) for key in sorted(lines))

    def sections(self) -> tuple[tuple[str, tuple[Row, ...]], ...]:
        """Return the counted rows by bit spec with its name: the float reference, then more bits first."""
        return ("Float", self.floats), *((str(bits), self.at(bits)) for bits in self.bit_specs)

    def at(self, bits: BitSpec) -> tuple[Row, ...]:
        """Return the counted rows at one bit spec, higher scores first."""
        return tuple(row for row in self.quantised if row.bits == bits)

    def highest(self, bits: BitSpec) -> Row | None:
        """Return the comparable row with the highest mean at one bit spec. No claim that it is the best method."""
        return next((row for row in self.at(bits) if row.comparable), None)

    def rank(self, row: Row, category: str | None = None) -> int | None:
        """Return 1 + the number of comparable rows of the same bits whose intervals lie wholly above the row's.

        Rows that the data cannot separate share a rank. With `category`, only its rows are counted. None for a row that
        is not comparable, not of the category, or without an interval.
        """
        rivals = [other for other in self.at(row.bits) if other.comparable and category in (None, other.card.category)]
        if row not in rivals or row.interval is None:
            return None
        top = row.interval.high
        return 1 + sum(other.interval is not None and other.interval.low > top for other in rivals)

    def stands_out(self, row: Row) -> bool:
        """Tell whether a row is the highest of its bit spec and no other comparable row's interval overlaps its own."""
        others = [other for other in self.at(row.bits) if other.comparable and other is not row]
        if row is not self.highest(row.bits) or not others or row.interval is None:
            return False
        return all(other.interval is not None and not row.interval.overlaps(other.interval) for other in others)


def more_bits_first(bits: BitSpec) -> tuple[int, int, int, int]:
    """Return a sorting key by which more bits come first."""
    return -(bits.weights + bits.activations), -bits.weights, -bits.activations, len(bits.parts)


def reading_order(row: Row) -> tuple[object, ...]:
    """Return a sorting key for a table's rows: float, then more bits first, then higher scores."""
    score = float("inf") if row.score is None else -row.score
    return not row.is_float, more_bits_first(row.bits), score, row.label, row.cell.method, row.id
