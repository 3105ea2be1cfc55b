"""A table: all rows of one task, edition and model, their order, and the ranks that paired tests allow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.metrics import secondary
from vitptq.bench.board.rows import Row, share_text
from vitptq.bench.board.tie_groups import RankInterval, TieGroups, tie_groups, within
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
    def dense(self) -> tuple[Row, ...]:
        """Return the counted rows that are quantised, in no low-rank factors and without side branches."""
        return tuple(row for row in self.quantised if not row.bits.own_category)

    @cached_property
    def low_rank(self) -> tuple[Row, ...]:
        """Return the counted rows in low-rank factors, quantised or not."""
        return tuple(row for row in self.quantised if row.bits.removed)

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
        return tuple(tuple(lines[key]) for key in sorted(lines, key=lambda key: (key[0].lower(), key)))

    def sections(self) -> tuple[tuple[str, tuple[Row, ...]], ...]:
        """Return the counted rows by bit spec with its name: the float reference, then more bits first."""
        return ("Float, not quantised", self.floats), *((self.bits_text(b), self.at(b)) for b in self.bit_specs)

    def at(self, bits: BitSpec) -> tuple[Row, ...]:
        """Return the counted rows at one bit spec, higher scores first."""
        return tuple(row for row in self.quantised if row.bits == bits)

    def highest(self, bits: BitSpec) -> Row | None:
        """Return the comparable row with the highest mean at one bit spec. No claim that it is the best method."""
        return next((row for row in self.at(bits) if row.comparable), None)

    def bits_text(self, bits: BitSpec) -> str:
        """Name a bit width with the share of multiply-accumulates that has it, where that is not nearly all.

        Low-rank factors and side branches are said in words: their rows have ranks among themselves.
        """
        factors = f", low rank: {bits.removed} % fewer parameters" if bits.removed else ""
        branches = ", with float side branches" if bits.branch else ""
        return f"{bits}{factors}{branches}{share_text(row.quantised_share for row in self.at(bits))}"

    def absence(self, bits: BitSpec, method: str | None = None) -> str:
        """Say why nothing stands at a bit width: it was not run, or nothing that was run counts beside others."""
        tried = (row for row in self.rows if row.bits == bits and method in (None, row.cell.method))
        return "none counts" if any(tried) else "not run"

    def groups(self, bits: BitSpec, category: str | None = None) -> TieGroups:
        """Return what paired tests say of the comparable rows of one bit width that have evidence.

        With `category`, of its rows among themselves.
        """
        key = bits, category
        if key not in self._groups:
            self._groups[key] = self._compared(bits, category)
        return self._groups[key]

    @cached_property
    def _groups(self) -> dict[tuple[BitSpec, str | None], TieGroups]:
        return {}

    def _compared(self, bits: BitSpec, category: str | None) -> TieGroups:
        rows = [row for row in self.at(bits) if row.comparable]
        if category is not None:
            return within(self.groups(bits), [row.id for row in rows if row.card.category == category])
        draws = [(row.id, row.draws(self.metric)) for row in rows]
        return tie_groups([(row, found) for row, found in draws if found])

    def rank(self, row: Row, category: str | None = None) -> RankInterval | None:
        """Return the ranks that the data allow a row among the comparable rows of its bit width.

        None for a row that is not comparable, not of the category, or without evidence.
        """
        return self.groups(row.bits, category).rank(row.id)

    def group(self, row: Row) -> str:
        """Return the letter of the row's tie group (`tie_groups`); empty where it has no rank."""
        return self.groups(row.bits).letters.get(row.id, "")

    def winners(self, bits: BitSpec) -> tuple[Row, ...]:
        """Return the rows of group A: the highest with all that are not shown to be worse. Empty without evidence."""
        return tuple(row for row in self.at(bits) if row.comparable and self.group(row) == "A")

    def stands_out(self, row: Row) -> bool:
        """Tell whether a row alone is group A, of several comparable rows which all have evidence."""
        rivals = [other for other in self.at(row.bits) if other.comparable]
        known = len(self.groups(row.bits).rows) == len(rivals) > 1
        return known and self.winners(row.bits) == (row,)

    def uncompared(self, bits: BitSpec) -> tuple[Row, ...]:
        """Return the comparable rows that have no rank because their evidence is not here."""
        return tuple(row for row in self.at(bits) if row.comparable and self.rank(row) is None)

    @cached_property
    def comparison_notes(self) -> tuple[str, ...]:
        """Say what the ranks rest on: draws, pooled spreads, missing evidence. One sentence each."""
        groups = {bits: self.groups(bits) for bits in self.bit_specs}
        one_draw = any(found.one_draw for found in groups.values())
        pooled = [str(bits) for bits, found in groups.items() if found.spread]
        uncompared = sum(len(self.uncompared(bits)) for bits in self.bit_specs)
        test = "McNemar's exact test" if self.metric.proportion else "a paired bootstrap over the images"
        notes = [f"With one calibration draw: {test}, which says nothing about another draw."] if one_draw else []
        if pooled:
            notes.append(
                f"At {', '.join(pooled)} the spread over draws is pooled over the methods that vary, which vary alike."
            )
        if uncompared:
            rows = "1 row has" if uncompared == 1 else f"{uncompared} rows have"
            notes.append(f"{rows} no rank: without evidence there is no comparison.")
        return tuple(notes)


def more_bits_first(bits: BitSpec) -> tuple[int, ...]:
    """Return a sorting key by which more bits come first; side branches and low-rank factors are behind all others."""
    widths = -(bits.weights + bits.activations), -bits.weights, -bits.activations
    return bits.removed, bits.branch, *widths, bits.mixed, len(bits.parts)


def reading_order(row: Row) -> tuple[object, ...]:
    """Return a sorting key for a table's rows: float, then more bits first, then higher scores."""
    score = float("inf") if row.score is None else -row.score
    return not row.is_float, more_bits_first(row.bits), score, row.label, row.cell.method, row.id
