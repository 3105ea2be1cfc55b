"""The board: records aggregated into rows with intervals. Nothing is averaged, dropped or hidden without saying so.

    records ──> newest per slot ──> rows (a slot without its seed) ──> tables (task, edition, model)

A row's score is the mean over the seeds that count. Seeds that failed, that the float gate refused, that belong to an
older version or that were never run stay visible beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pandas as pd

from vitptq.bench.bits import BitSpec
from vitptq.bench.board import statistics
from vitptq.bench.board.statistics import Interval
from vitptq.bench.results.cell import Cell, canonical_json, sha256, told_apart
from vitptq.bench.results.record import Costs, Record

ROW_KEY = ["task", "edition", "model", "method", "parameters", "bits", "track", "calibration_size"]
TABLE_KEY = ["task", "edition", "model"]
STANDARD = "standard"

# Scores that are a share of the images; the others need their evidence resampled, which a record does not hold.
PROPORTIONS = frozenset({"top1", "top5"})
METRIC_TITLES = {
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "box_ap": "Box AP",
    "box_ap50": "Box AP50",
    "box_ap75": "Box AP75",
    "box_ap_small": "Box AP, small",
    "box_ap_medium": "Box AP, medium",
    "box_ap_large": "Box AP, large",
    "mask_ap": "Mask AP",
    "mask_ap50": "Mask AP50",
    "mask_ap75": "Mask AP75",
    "mask_ap_small": "Mask AP, small",
    "mask_ap_medium": "Mask AP, medium",
    "mask_ap_large": "Mask AP, large",
    "miou": "Mean IoU",
    "macc": "Mean class accuracy",
    "aacc": "Pixel accuracy",
}

Tone = Literal["bad", "warn", "info"]


@dataclass(frozen=True, slots=True)
class MethodCard:
    """What the board tells about a method; taken from its adapter."""

    name: str
    title: str
    summary: str
    """The adapter's docstring."""
    fidelity: str
    inferred: tuple[str, ...] = ()
    category: str = "ptq"
    paper: str = ""
    source_hash: str = ""
    known: bool = True
    """False: records name it, but its adapter was not found when the board was built."""


@dataclass(frozen=True, slots=True)
class Badge:
    """A short machine-set remark on a row, with the sentence behind it."""

    text: str
    meaning: str
    tone: Tone
    anchor: str = ""
    """Part of the run page that tells more."""


@dataclass(frozen=True)
class Row:
    """All seeds of one slot: what one line of the board shows."""

    records: tuple[Record, ...]
    """The current record of every seed, ascending. Never empty; all of one version of method, data and checkpoint."""
    outdated: tuple[Record, ...]
    """Records of seeds that exist only for an older version: never averaged with the current ones."""
    superseded: int
    """How many older records of the same seeds were replaced by newer ones."""
    expected_seeds: tuple[int, ...]
    """Seeds that some row of the same table was run with."""
    variant: str
    """What sets it apart from other rows of the same method and bits; empty where there is none."""
    current: bool
    """Whether it was measured on the newest data and checkpoint of its table."""
    card: MethodCard

    @cached_property
    def id(self) -> str:
        """Return the identity: sha256 of the slot without the seed."""
        key = [getattr(self.cell, name) for name in ROW_KEY if name != "parameters"]
        return sha256(canonical_json([*key, self.cell.parameters]).encode())

    @property
    def cell(self) -> Cell:
        """Return the first seed's cell, for everything that the seeds share."""
        return self.records[0].cell

    @property
    def bits(self) -> BitSpec:
        """Return the bit spec."""
        return self.cell.bit_spec

    @property
    def is_float(self) -> bool:
        """Tell whether it is the float reference."""
        return self.cell.is_float

    @property
    def label(self) -> str:
        """Return the method's title with what sets this row apart."""
        return f"{self.card.title} ({self.variant})" if self.variant else self.card.title

    @cached_property
    def counted(self) -> tuple[Record, ...]:
        """Return the records whose score counts."""
        return tuple(r for r in self.records if r.counts)

    @cached_property
    def apart(self) -> tuple[Record, ...]:
        """Return the records that have a score which does not count."""
        return tuple(r for r in self.records if r.status == "ok" and not r.counts)

    @cached_property
    def failed(self) -> tuple[Record, ...]:
        """Return the records without a score."""
        return tuple(r for r in self.records if r.status == "failed")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds that the score is the mean of."""
        return tuple(r.cell.seed for r in self.counted)

    @property
    def missing_seeds(self) -> tuple[int, ...]:
        """Return the expected seeds that the score does not cover."""
        return tuple(s for s in self.expected_seeds if s not in self.seeds)

    @cached_property
    def metric(self) -> str:
        """Return the name of the primary score: the first that the task reports."""
        return next((next(iter(r.scores)) for r in self.records if r.scores), "")

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of all scores, the primary one first."""
        return tuple(dict.fromkeys(name for r in self.records for name in r.scores))

    @cached_property
    def score(self) -> float | None:
        """Return the mean of the primary score over the counted seeds."""
        return self.mean(self.metric)

    @cached_property
    def interval(self) -> Interval | None:
        """Return the 95 % interval of the score."""
        return self.interval_of(self.metric)

    @property
    def images(self) -> int:
        """Return the number of images behind every counted score (the smallest, should they differ)."""
        return min((r.images for r in self.counted), default=0)

    @cached_property
    def drop(self) -> float | None:
        """Return the mean difference to the float score that the gate measured in each seed's own environment."""
        if self.is_float:
            return None
        return self._mean(drop_of)

    @property
    def float_score(self) -> float | None:
        """Return the mean float score that the gate measured for the counted seeds."""
        return self._mean(lambda r: r.gate.measured if r.gate else None)

    @property
    def quantised_share(self) -> float | None:
        """Return the percentage of multiply-accumulates with both operands quantised: the lowest of the seeds."""
        shares = [share_of(r) for r in self.counted]
        known = [s for s in shares if s is not None]
        return min(known) if known and len(known) == len(shares) else None

    @property
    def violations(self) -> tuple[str, ...]:
        """Return what the audit found in any counted seed, each once."""
        found = (v for r in self.counted if r.audit for v in r.audit.violations)
        return tuple(dict.fromkeys(found))

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the notes of all seeds, each once."""
        return tuple(dict.fromkeys(note for r in self.records for note in r.notes))

    @property
    def comparable(self) -> bool:
        """Tell whether the row may stand beside others: standard track, clean audit, newest data and checkpoint."""
        return self.current and not self.violations and self.cell.track == STANDARD

    @cached_property
    def badges(self) -> tuple[Badge, ...]:
        """Return the remarks that a reader must see beside the score."""
        return tuple(_badges(self))

    def mean(self, metric: str) -> float | None:
        """Return the mean of one score over the counted seeds; None if any of them lacks it."""
        return self._mean(lambda r: r.scores.get(metric))

    def interval_of(self, metric: str) -> Interval | None:
        """Return the 95 % interval of one score."""
        scores = [r.scores[metric] for r in self.counted if metric in r.scores]
        if len(scores) != len(self.counted):
            return None
        return statistics.interval(scores, self.images, proportion=metric in PROPORTIONS)

    def cost(self, name: str) -> float | None:
        """Return the mean of one cost over the counted seeds; None if any of them lacks it."""
        if name not in Costs.model_fields:
            raise KeyError(name)
        return self._mean(lambda r: getattr(r.costs, name) if r.costs else None)

    def _mean(self, value: Callable[[Record], float | None]) -> float | None:
        # A seed without the value makes the mean unknown: it never becomes the mean of the rest.
        values = [value(r) for r in self.counted]
        known = [v for v in values if v is not None]
        return statistics.mean(known) if known and len(known) == len(values) else None


@dataclass(frozen=True)
class Table:
    """All rows of one (task, edition, model), sorted for reading: float, then more bits first, then higher scores."""

    task: str
    edition: str
    model: str
    rows: tuple[Row, ...]

    @cached_property
    def id(self) -> str:
        """Return the identity: sha256 of task, edition and model."""
        return sha256(canonical_json([self.task, self.edition, self.model]).encode())

    @property
    def metric(self) -> str:
        """Return the name of the primary score."""
        return next((row.metric for row in self.rows if row.metric), "")

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
        return tuple(sorted({row.bits for row in self.rows if not row.is_float}, key=_more_bits_first))

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


@dataclass(frozen=True)
class Comparison:
    """The tasks of one edition side by side, at one bit spec: methods as lines, models as columns."""

    edition: str
    tables: tuple[Table, ...]

    @property
    def tasks(self) -> tuple[tuple[str, tuple[Table, ...]], ...]:
        """Return the models' tables by task."""
        names = dict.fromkeys(table.task for table in self.tables)
        return tuple((name, tuple(t for t in self.tables if t.task == name)) for name in names)

    @cached_property
    def bits(self) -> BitSpec | None:
        """Return the bit spec that most models have counted rows at; of several the one with the fewest bits."""
        counted = [bits for table in self.tables for bits in {row.bits for row in table.quantised}]
        return max(counted, key=lambda bits: (counted.count(bits), _more_bits_first(bits)), default=None)

    @cached_property
    def lines(self) -> tuple[tuple[Row | None, ...], ...]:
        """Return a line per method: its comparable row of each table, the highest where it has several variants."""
        at = [[row for row in t.at(self.bits) if row.comparable] if self.bits else [] for t in self.tables]
        methods = sorted({(row.card.title, row.cell.method) for rows in at for row in rows})
        return tuple(
            tuple(next((row for row in rows if row.cell.method == method), None) for rows in at)
            for _, method in methods
        )


@dataclass(frozen=True)
class Board:
    """Everything that the exports and the site show."""

    tables: tuple[Table, ...]
    cards: Mapping[str, MethodCard]
    """The methods that have records, by name."""
    records: int
    """How many distinct records it was made from, superseded ones included."""

    @classmethod
    def from_records(cls, records: Iterable[Record], methods: Mapping[str, MethodCard]) -> Board:
        """Aggregate records; `methods` tells about the adapters that are installed here."""
        unique = sorted({r.id: r for r in records}.values(), key=lambda r: r.id)
        cards = {name: _card(name, unique, methods) for name in sorted({r.cell.method for r in unique})}
        runs = _newest_first(unique)
        tables = [
            _table(group, unique, cards) for _, group in runs.groupby(TABLE_KEY, dropna=False, sort=True, observed=True)
        ]
        return cls(tuple(tables), cards, len(unique))

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return every row of every table."""
        return tuple(row for table in self.tables for row in table.rows)

    @property
    def failures(self) -> tuple[tuple[Row, Record], ...]:
        """Return the current records without a score, each with its row."""
        return tuple((row, record) for row in self.rows for record in row.failed)

    def comparisons(self) -> tuple[Comparison, ...]:
        """Return one comparison per edition in which several tasks were measured."""
        editions = dict.fromkeys(table.edition for table in self.tables)
        found = (Comparison(edition, tuple(t for t in self.tables if t.edition == edition)) for edition in editions)
        return tuple(c for c in found if len(c.tasks) > 1 and c.bits is not None)

    def groups(self) -> tuple[tuple[str, str, tuple[Table, ...]], ...]:
        """Return the tables by task and edition."""
        keys = dict.fromkeys((t.task, t.edition) for t in self.tables)
        return tuple((*key, tuple(t for t in self.tables if (t.task, t.edition) == key)) for key in keys)


def metric_title(name: str) -> str:
    """Return a score's name for people."""
    return METRIC_TITLES.get(name, name)


def drop_of(record: Record) -> float | None:
    """Return the score's difference to the float score of the same environment, in points; negative is a loss."""
    if record.gate is None or record.gate.measured is None or not record.scores:
        return None
    return next(iter(record.scores.values())) - record.gate.measured


def share_of(record: Record) -> float | None:
    """Return the share of multiply-accumulates with both operands quantised, in percent."""
    if record.audit is None or record.audit.macs <= 0:
        return None
    return 100 * record.audit.quantised_macs / record.audit.macs


def why_apart(record: Record) -> str:
    """Say why a measured score does not count."""
    if record.gate is None:
        return "the float gate was not run"
    return record.gate.reason or "the float gate failed"


def _newest_first(records: Sequence[Record]) -> pd.DataFrame:
    """Return one line per record, the newest first (ties by id), with the columns of its slot."""
    lines = [
        {
            **{name: getattr(r.cell, name) for name in [*ROW_KEY, "seed"]},
            "parameters": canonical_json(r.cell.parameters),
            "finished": r.provenance.finished,
            "id": r.id,
            "index": index,
        }
        for index, r in enumerate(records)
    ]
    columns = [*ROW_KEY, "seed", "finished", "id", "index"]
    return pd.DataFrame(lines, columns=columns).sort_values(["finished", "id"], ascending=False)


def _table(runs: pd.DataFrame, records: Sequence[Record], cards: Mapping[str, MethodCard]) -> Table:
    newest = records[int(runs["index"].iloc[0])].cell
    slots = [[records[int(i)] for i in group["index"]] for _, group in runs.groupby(ROW_KEY, dropna=False, sort=True)]
    seeds = sorted({r.cell.seed for slot in slots for r in slot if not r.cell.is_float})
    rows = [_row(slot, newest, slots, tuple(seeds), cards) for slot in slots]
    return Table(newest.task, newest.edition, newest.model, tuple(sorted(rows, key=_reading_order)))


def _row(
    newest_first: Sequence[Record],
    table_newest: Cell,
    slots: Sequence[Sequence[Record]],
    seeds: tuple[int, ...],
    cards: Mapping[str, MethodCard],
) -> Row:
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
        expected_seeds=tuple(sorted(per_seed)) if cell.is_float else seeds,
        variant=_variant(cell, [slot[0].cell for slot in slots]),
        current=(cell.data, cell.checkpoint) == (table_newest.data, table_newest.checkpoint),
        card=cards[cell.method],
    )


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
    return ", ".join(parts)


def _card(name: str, records: Sequence[Record], methods: Mapping[str, MethodCard]) -> MethodCard:
    if name in methods:
        return methods[name]
    newest = max((r for r in records if r.cell.method == name), key=lambda r: (r.provenance.finished, r.id))
    summary = "The adapter of this method was not found when this board was built; only its records are known."
    return MethodCard(name, name, summary, newest.fidelity, source_hash=newest.cell.source, known=False)


def _more_bits_first(bits: BitSpec) -> tuple[int, int, int, int]:
    return -(bits.weights + bits.activations), -bits.weights, -bits.activations, len(bits.parts)


def _reading_order(row: Row) -> tuple[object, ...]:
    score = float("inf") if row.score is None else -row.score
    return not row.is_float, _more_bits_first(row.bits), score, row.label, row.cell.method, row.id


def _badges(row: Row) -> Iterable[Badge]:
    if row.violations:
        meaning = f"the audit found: {'; '.join(row.violations)}"
        yield Badge(f"audit: {_count(len(row.violations), 'violation')}", meaning, "bad", "audit")
    if row.counted and row.missing_seeds:
        expected = len(row.expected_seeds)
        meaning = f"mean of {_seeds(row.seeds)} only; without a counted score: {_seeds(row.missing_seeds)}"
        yield Badge(f"{expected - len(row.missing_seeds)} of {expected} seeds", meaning, "warn", "seeds")
    if not row.current:
        meaning = "measured on other data or another checkpoint than the newest of this table"
        yield Badge("older data", meaning, "warn", "cell")
    if row.card.category == "data-free":
        yield Badge(
            "data-free", "its method saw no image of the task: it was given the input's shape alone", "info", "cell"
        )
    if row.card.fidelity == "inferred":
        yield Badge("inferred", "parts of the method had to be inferred; the method page lists them", "info", "cell")
    if any(note.lower().startswith("reduced") for note in row.notes):
        yield Badge("reduced", "; ".join(row.notes), "warn", "notes")
    elif row.notes:
        yield Badge("note", "; ".join(row.notes), "info", "notes")


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
