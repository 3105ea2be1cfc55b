"""Records grouped into tables of rows. Nothing is averaged, dropped or hidden without saying so.

records ──> newest per cell ──> rows (a cell but for its seed) ──> tables (task, edition, model)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitptq.bench.board.image_noise import ImageNoises
from vitptq.bench.board.method_card import MethodCard
from vitptq.bench.board.metrics import Declared, ranked_by, table_metrics
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table, reading_order
from vitptq.bench.contracts.task import Metric
from vitptq.bench.errors import UnknownName
from vitptq.bench.results.cell import FP32, STANDARD, Cell, canonical_json, told_apart
from vitptq.bench.results.folders import Origin
from vitptq.bench.results.record import Record

Records = Sequence[Record]


@dataclass(frozen=True)
class Sources:
    """What rows are made from beside the records."""

    cards: Mapping[str, MethodCard]
    declared: Declared
    noises: ImageNoises
    metric: str = ""
    """The metric to rank by; empty: each task's own."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """In which of several results folders the records lie, by id."""


def tables(records: Records, sources: Sources) -> tuple[Table, ...]:
    """Return one table per task, edition and model, ordered by these; only those with the metric where one is named.

    Raises UnknownName where no table has it.
    """
    newest_first = sorted(records, key=lambda r: (r.provenance.finished, r.id), reverse=True)
    found = [_table(group, sources) for group in _grouped(newest_first, _table_key)]
    if not sources.metric:
        return tuple(found)
    kept = tuple(table for table in found if table.metric.name == sources.metric)
    if not kept:
        known = {metric.name for table in found for metric in table.metrics}
        raise UnknownName("metric in these results", sources.metric, known)
    return kept


def _table(newest_first: Records, sources: Sources) -> Table:
    newest = newest_first[0].cell
    groups = _grouped(newest_first, _row_key)
    seeds = sorted({r.cell.seed for r in newest_first if not r.cell.is_float})
    metrics = table_metrics(newest_first, sources.declared.get((newest.task, newest.edition), ()))
    floats = {r.id: r for r in newest_first if r.cell.is_float}
    shown = _TableView(newest, groups, tuple(seeds), ranked_by(metrics, sources.metric), metrics[0], floats)
    rows = [_row(group, shown, sources) for group in groups]
    return Table(newest.task, newest.edition, newest.model, tuple(sorted(rows, key=reading_order)), shown.metrics)


@dataclass(frozen=True)
class _TableView:
    """What the rows of one table share."""

    newest: Cell
    groups: Sequence[Records]
    seeds: tuple[int, ...]
    metrics: tuple[Metric, ...]
    gate_metric: Metric
    floats: Mapping[str, Record]


def _row(newest_first: Records, table: _TableView, sources: Sources) -> Row:
    per_seed: dict[int, Record] = {}
    for record in newest_first:
        per_seed.setdefault(record.cell.seed, record)
    version = _version(newest_first[0])
    by_seed = sorted(per_seed.values(), key=lambda r: r.cell.seed)
    cell = newest_first[0].cell
    return Row(
        records=tuple(r for r in by_seed if _version(r) == version),
        outdated=tuple(r for r in by_seed if _version(r) != version),
        superseded=len(newest_first) - len(per_seed),
        expected_seeds=tuple(sorted(per_seed)) if cell.is_float else table.seeds,
        variant=_variant(cell, [group[0].cell for group in table.groups]),
        current=(cell.data, cell.checkpoint) == (table.newest.data, table.newest.checkpoint),
        card=sources.cards[cell.method],
        metrics=table.metrics,
        gate_metric=table.gate_metric,
        float_records=table.floats,
        noises=sources.noises,
        origins=sources.origins,
    )


def _grouped(records: Records, key: Callable[[Record], tuple[Any, ...]]) -> list[list[Record]]:
    """Return the records by key, keys ascending, each group in the order given."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return [groups[found] for found in sorted(groups)]


def _table_key(record: Record) -> tuple[str, ...]:
    return record.cell.task, record.cell.edition, record.cell.model


def _row_key(record: Record) -> tuple[str | int, ...]:
    cell = record.cell
    return cell.method, canonical_json(cell.parameters), cell.bits, cell.track, cell.calibration_size, cell.precision


def _version(record: Record) -> tuple[str, str, str]:
    # Seeds of two versions of a method, its data or its checkpoint are not draws of one thing: no mean over them.
    return record.cell.source, record.cell.data, record.cell.checkpoint


def _variant(cell: Cell, cells: Sequence[Cell]) -> str:
    """Name what tells a row from the others of its method and bits: parameters, track, calibration size."""
    rivals = [c for c in cells if (c.method, c.bits) == (cell.method, cell.bits)]
    parts = told_apart(cell, rivals)
    if len({c.calibration_size for c in rivals}) > 1:
        parts.append(f"{cell.calibration_size} images")
    if cell.track != STANDARD:
        parts.append(f"{cell.track} settings")
    if cell.precision != FP32:
        parts.append(f"evaluated in {cell.precision}")
    return ", ".join(parts)
