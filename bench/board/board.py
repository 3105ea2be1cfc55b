"""The board: every table, row and method that the exports and the site show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vitptq.bench.board import aggregation
from vitptq.bench.board.image_noise import ImageNoises, NoImageNoise
from vitptq.bench.board.method_card import MethodCard, method_cards
from vitptq.bench.board.metrics import Declared
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.board.task_comparison import TaskComparison, task_comparisons
from vitptq.bench.results.folders import NO_ORIGINS, Origins
from vitptq.bench.results.record import Record


@dataclass(frozen=True)
class Board:
    """Everything that the exports and the site show."""

    tables: tuple[Table, ...]
    cards: Mapping[str, MethodCard]
    """The methods that have records, by name."""
    records: int
    """How many distinct records it was made from, superseded ones included."""
    origins: Origins = NO_ORIGINS
    """In which of several results folders they lie."""

    @classmethod
    def from_records(
        cls,
        records: Iterable[Record],
        methods: Mapping[str, MethodCard],
        declared: Declared | None = None,
        noises: ImageNoises | None = None,
        metric: str = "",
        origins: Origins = NO_ORIGINS,
    ) -> Board:
        """Aggregate records; `methods` tells about the adapters that are installed here.

        `declared` holds what the installed tasks say of their scores, for records that do not hold it themselves.
        `noises` finds how scores vary with the images: without it no two rows are compared. `metric` ranks instead of
        each task's own, and leaves out the tables that do not have it. `origins` tells where the records of
        several results folders lie.
        """
        unique = sorted({r.id: r for r in records}.values(), key=lambda r: r.id)
        cards = method_cards(unique, methods)
        sources = aggregation.Sources(cards, declared or {}, noises or NoImageNoise(), metric, origins.of)
        return cls(aggregation.tables(unique, sources), cards, len(unique), origins)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return every row of every table."""
        return tuple(row for table in self.tables for row in table.rows)

    @property
    def failures(self) -> tuple[tuple[Row, Record], ...]:
        """Return the current records without a score, each with its row."""
        return tuple((row, record) for row in self.rows for record in row.failed)

    def comparisons(self) -> tuple[TaskComparison, ...]:
        """Return one comparison per edition in which several tasks were measured."""
        return task_comparisons(self.tables)

    def groups(self) -> tuple[tuple[str, str, tuple[Table, ...]], ...]:
        """Return the tables by task and edition."""
        keys = dict.fromkeys((t.task, t.edition) for t in self.tables)
        return tuple((*key, tuple(t for t in self.tables if (t.task, t.edition) == key)) for key in keys)
